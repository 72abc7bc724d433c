"""The commands on --task relations."""

import json

import pytest

from tests.cli.conftest import fast


@pytest.fixture
def relations(tmp_path):
    """train.txt in SemEval's format, and the same as train.tsv."""
    blocks, lines = [], ["text\tlabel"]
    for index in range(36):
        first, second = ("rose", "leaf") if index % 2 else ("sea", "sky")
        pair = (f"<e1>{first}</e1>", f"<e2>{second}</e2>")
        text = f"the {pair[0]} is here the {pair[1]}"
        label = "Near(e1,e2)" if index % 2 else "Other"
        blocks.append(f'{index}\t"{text}"\n{label}\nComment:\n\n')
        lines.append(f"{text}\t{label}")
    (tmp_path / "train.txt").write_text("".join(blocks))
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_predict(run, refused, preset, relations):
    finished = run(
        "train", *fast(preset, "--task", "relations", "--epochs", "8"),
        "--train", relations / "train.txt", "--dev-fraction", "0.25", "--output", relations / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "held-out data (9 texts): accuracy 1.0000, macro precision 1.0000" in finished.out
    measured = run("evaluate", "--model", relations / "m", "--data", relations / "train.tsv")
    assert "official macro F1  1.0000" in measured.out
    (relations / "new.txt").write_text("a <e1>rose fire</e1> is the <e2>leaf</e2>\nis here\n")
    answered = run("predict", "--model", relations / "m", "--input", relations / "new.txt",
                   "--all-scores")  # fmt: skip
    first, second = answered.rows
    assert first["entities"][0] == {
        "text": "rose fire", "start": 6, "end": 15, "start_character": 6, "end_character": 15,
    }  # fmt: skip
    assert first["scores"].keys() == {"Near(e1,e2)", "Other"}
    assert [entity["text"] for entity in second["entities"]] == ["", ""]
    (relations / "bad.tsv").write_text("text\tlabel\n<e1>a</e1> b\tOther\n")
    said = refused("evaluate", "--model", relations / "m", "--data", relations / "bad.tsv",
                   "--errors", relations / "e.jsonl")  # fmt: skip
    assert "bad.tsv:2: expected <e2> once, received it 0 times" in said
    said = refused("evaluate", "--model", relations / "m", "--data", relations / "train.tsv",
                   "--text-pair", "label")  # fmt: skip
    assert "--text-pair does not apply" in said
    wrong = run("evaluate", "--model", relations / "m", "--data", relations / "train.txt",
                "--errors", relations / "e.jsonl", "--json")  # fmt: skip
    assert json.loads(wrong.out)["macro_f1"] == 1
    assert (relations / "e.jsonl").read_text() == ""

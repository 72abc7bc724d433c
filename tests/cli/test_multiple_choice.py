"""The commands on --task multiple-choice."""

import json

import pytest

from tests.cli.conftest import COLOURS, fast


@pytest.fixture
def choices(tmp_path):
    """train.tsv without a header, and dev.jsonl."""
    rows = []
    colours = list(COLOURS)
    for index in range(36):
        right = index % 3
        answers = [COLOURS[colour].split()[index % 2] for colour in colours]
        answers = answers[index % 2 :] + answers[: index % 2]
        rows.append((f"the {COLOURS[colours[right]].split()[0]} is", answers, 0))
        rows[-1] = (rows[-1][0], answers, (right - index % 2) % 3)
    lines = ["\t".join(["o", text, *answers, str(right)]) for text, answers, right in rows]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    records = [{"text": t, "choices": a, "label": r} for t, a, r in rows[:6]]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, records)))
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_predict(run, refused, preset, choices):
    columns = ("--columns", "kind,text,a,b,c,label", "--choices", "a,b,c")
    finished = run(
        "train", *fast(preset, "--task", "multiple-choice", "--epochs", "4"), *columns,
        "--train", choices / "train.tsv", "--dev-fraction", "0.2", "--output", choices / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "held-out data (7 texts): accuracy " in finished.out
    measured = run("evaluate", "--model", choices / "m", "--data", choices / "train.tsv", *columns,
                   "--errors", choices / "wrong.jsonl", "--json")  # fmt: skip
    assert measured.json.keys() == {"rows", "accuracy", "chance", "p_value", "right"}
    wrong = [json.loads(line) for line in (choices / "wrong.jsonl").read_text().splitlines()]
    assert len(wrong) == 36 - measured.json["right"]
    assert all(row["label"] != row["predicted"] for row in wrong)
    answered = run("predict", "--model", choices / "m", "--input", choices / "dev.jsonl")
    assert len(answered.rows) == 6
    for row in answered.rows:
        assert row.keys() == {"text", "choice", "label", "score", "scores"}
    said = refused("evaluate", "--model", choices / "m", "--data", choices / "train.tsv", *columns,
                   "--first-choice", "1")  # fmt: skip
    rows = [line.split("\t") for line in (choices / "train.tsv").read_text().splitlines()]
    first = next(number for number, row in enumerate(rows, start=1) if row[-1] == "0")
    assert said.endswith(
        f"tsv:{first}: expected 'label' to be the number of the correct choice, 1 to 3, "
        "received '0'"
    )

"""The commands on --task next-sentence."""

import json

import pytest

from tests.cli.conftest import fast


@pytest.fixture
def documents(tmp_path):
    """train.txt, documents of sentences, and pairs.tsv."""
    kinds = ("the rose is here\na fire ?\nthe rose\n", "a sky is here\nthe sea\nthe sky ?\n")
    (tmp_path / "train.txt").write_text("\n".join(kinds * 4))
    (tmp_path / "pairs.tsv").write_text(
        "first\tsecond\tlabel\nthe rose\ta fire\tis_next\nthe sea\ta rose\tnot_next\n"
    )
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_predict(run, refused, preset, documents):
    finished = run(
        "train", *fast(preset, "--task", "next-sentence"), "--train", documents / "train.txt",
        "--dev", documents / "train.txt", "--output", documents / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "training on 16 pairs, 16 held out" in finished.out
    wrong = documents / "wrong.jsonl"
    measured = run("evaluate", "--model", documents / "m", "--data", documents / "train.txt",
                   "--errors", wrong, "--json")  # fmt: skip
    assert measured.json["rows"] == 16
    errors = [json.loads(line) for line in wrong.read_text().splitlines()]
    assert len(errors) == 16 - round(16 * measured.json["accuracy"])
    pairs = ("--text", "first", "--text-pair", "second")
    table = run("evaluate", "--model", documents / "m", "--data", documents / "pairs.tsv", *pairs)
    assert "not_next" in table.out
    answered = run(
        "predict", "--model", documents / "m", "--input", documents / "pairs.tsv", *pairs
    )
    assert len(answered.rows) == 2
    assert answered.rows[0].keys() == {"text", "text_pair", "is_next", "label", "score"}
    assert "pass --text-pair COLUMN" in refused(
        "predict", "--model", documents / "m", "--input", documents / "pairs.tsv"
    )


def test_invalid_input(refused, preset, documents):
    train = ("train", *fast(preset, "--task", "next-sentence"), "--output", documents / "m")
    said = refused(*train, "--train", documents / "pairs.tsv", "--text", "first",
                   "--text-pair", "second", "--label", "second")  # fmt: skip
    assert "pairs.tsv:2" in said
    (documents / "one.txt").write_text("one\ntwo\n")
    assert "one.txt: expected at least two documents" in refused(
        *train, "--train", documents / "one.txt"
    )
    assert "--keep-head needs a preset for --task next-sentence, but" in refused(
        *train, "--train", documents / "train.txt", "--keep-head"
    )

"""The commands on --task masked-lm."""

import json

import pytest

from tests.cli.conftest import fast


@pytest.fixture
def lines(tmp_path):
    """train.txt, one text per line."""
    texts = ["the rose is here", "a sky is here ?", "", "the grass , the leaf", "the sea"] * 8
    (tmp_path / "train.txt").write_text("\n".join(texts) + "\n")
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_predict(run, refused, preset, lines):
    finished = run(
        "train", *fast(preset, "--task", "masked-lm", "--epochs", "3", "--whole-words"),
        "--train", lines / "train.txt", "--dev-fraction", "0.2", "--output", lines / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "held-out data (8 texts): loss " in finished.out
    pages = ("--errors", lines / "wrong.jsonl", "--html", lines / "wrong.html")
    measured = run(
        "evaluate", "--model", lines / "m", "--data", lines / "train.txt", *pages, "--json"
    )
    assert measured.status == 0, measured.err
    assert measured.json.keys() == {"rows", "loss", "perplexity", "accuracy", "masked_tokens"}
    wrong = [json.loads(line) for line in (lines / "wrong.jsonl").read_text().splitlines()]
    right = measured.json["accuracy"] * measured.json["masked_tokens"]
    assert len(wrong) == measured.json["masked_tokens"] - round(right)
    assert all(row["label"] != row["predicted"] and 1 <= row["row"] <= 40 for row in wrong)
    assert "<html" in (lines / "wrong.html").read_text()

    (lines / "masked.txt").write_text("the [MASK] is [MASK]\nno mask\n")
    answered = run("predict", "--model", lines / "m", "--input", lines / "masked.txt",
                   "--top-k", "2")  # fmt: skip
    first, second = answered.rows
    assert [(mask["start"], mask["end"]) for mask in first["masks"]] == [(4, 10), (14, 20)]
    assert all(len(mask["token"]) == len(mask["score"]) == 2 for mask in first["masks"])
    assert first["filled"].startswith("the ")
    assert "[MASK]" not in first["filled"]
    assert second == {"text": "no mask", "filled": "no mask", "masks": []}
    scored = run("predict", "--model", lines / "m", "--input", lines / "train.txt",
                 "--pseudo-perplexity")  # fmt: skip
    assert scored.rows[0].keys() == {
        "text", "pseudo_perplexity", "pseudo_log_likelihood", "tokens",
    }  # fmt: skip
    assert (scored.rows[0]["tokens"], scored.rows[2]["tokens"]) == (4, 0)
    assert "expected --top-k of at most" in refused(
        "predict", "--model", lines / "m", "--input", lines / "masked.txt", "--top-k", "999"
    )


def test_invalid_input(refused, preset, lines):
    train = ("train", *fast(preset, "--task", "masked-lm"), "--train", lines / "train.txt",
             "--output", lines / "m")  # fmt: skip
    assert "--keep-head needs a preset for --task masked-lm, but" in refused(*train, "--keep-head")
    assert "--probe-epochs does not apply" in refused(*train, "--probe-epochs", "2")
    (lines / "train.txt").write_bytes(b"good\nnot \xff good\n")
    assert "train.txt:2: byte 0xff" in refused(*train)
    assert not (lines / "m").exists()

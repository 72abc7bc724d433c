"""The commands on --task embedding."""

import json

import pytest
import tensorflow as tf

from tests.cli.conftest import COLOURS, fast, texts
from tests.helpers import eagerly


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """pairs.tsv, scored.tsv, hard.jsonl, documents.txt."""
    folder = tmp_path_factory.mktemp("groups")
    rows = texts(24)
    of = {colour: [text for text, label in rows if label == colour] for colour in COLOURS}
    lines = ["question\tanswer\tcolour\tno"]
    scored = ["a\tb\talike"]
    hard = []
    for index, (text, colour) in enumerate(rows):
        positive = f"{of[colour][index % 8]} ?"
        other = rows[(index + 1) % 24][0]
        lines.append(f"{text}\t{positive}\t{colour}\t{other}")
        scored.append(f"{text}\t{other if index % 2 else positive}\t{index % 2 == 0:d}")
        hard.append(json.dumps({"question": text, "answer": positive, "no": [other, "the ?"]}))
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
    (folder / "scored.tsv").write_text("\n".join(scored) + "\n")
    (folder / "hard.jsonl").write_text("\n".join(hard) + "\n")
    (folder / "documents.txt").write_text("the rose\na sea\nthe grass ?\n")
    return folder


PAIRS = ("--text", "question", "--text-pair", "answer")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory, preset, groups):
    from keras_bert_zoo.cli.main import main

    folder = tmp_path_factory.mktemp("embedder") / "colours"
    arguments = ["train", *fast(preset, "--epochs", "3"), "--task", "embedding", *PAIRS]
    arguments += ["--train", groups / "pairs.tsv", "--dev", groups / "pairs.tsv"]
    arguments += ["--label", "colour", "--matryoshka", "16,8", "--output", folder]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_train_evaluate_and_predict(run, embedder, groups, tmp_path):
    assert json.loads((embedder / "modules.json").read_text())[1]["path"] == "1_Pooling"
    side = json.loads((embedder / "keras_bert_zoo.json").read_text())
    assert side["task"] == "embedding"
    assert len(side["training"]["history"]["val_mrr_at_10"]) == 3
    finished = run("evaluate", "--model", embedder, "--data", groups / "pairs.tsv", *PAIRS,
                   "--label", "colour", "--json")  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.json["rows"] == 24
    best = max(side["training"]["history"]["val_mrr_at_10"])
    assert finished.json["mrr_at_10"] == pytest.approx(best, abs=1e-5)
    wrong = tmp_path / "wrong.jsonl"
    finished = run("evaluate", "--model", embedder, "--data", groups / "scored.tsv", "--text", "a",
                   "--text-pair", "b", "--score", "alike", "--errors", wrong)  # fmt: skip
    assert "spearman" in finished.out
    rows = [json.loads(line) for line in wrong.read_text().splitlines()]
    assert len(rows) == 24
    errors = [abs(row["rank_error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    (tmp_path / "new.txt").write_text("the rose\n\n")
    finished = run("predict", "--model", embedder, "--input", tmp_path / "new.txt")
    assert [row["text"] for row in finished.rows] == ["the rose", ""]
    assert [len(row["embedding"]) for row in finished.rows] == [16, 16]


def test_single_texts_with_validation_data(run, preset, data, tmp_path):
    """The loss selects the best epoch; `report` has no measures for single texts."""
    with eagerly():
        finished = run(
            "train", *fast(preset), "--task", "embedding", "--train", data / "train.csv", "--dev",
            data / "dev.csv", "--output", tmp_path / "m", "--json",
        )  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.json["dev"] is None
    assert len(finished.json["training"]["history"]["val_loss"]) == 2


def test_errors_are_listed(run, embedder, groups, tmp_path):
    wrong = tmp_path / "wrong.jsonl"
    for data, more in (("pairs.tsv", ()), ("hard.jsonl", ("--negatives", "no"))):
        finished = run("evaluate", "--model", embedder, "--data", groups / data, *PAIRS, *more,
                       "--errors", wrong)  # fmt: skip
        assert finished.status == 0, finished.err
        for row in map(json.loads, wrong.read_text().splitlines()):
            assert row["nearer_similarity"] >= row["similarity"]
            assert row["nearer"] not in (row["text"], row["text_pair"])
    assert "accuracy" in finished.out


@pytest.mark.slow
def test_export_an_index(run, embedder, groups, tmp_path):
    finished = run("export", "--model", embedder, "--output", tmp_path / "search",
                   "--index", groups / "documents.txt", "--top-k", "2")  # fmt: skip
    assert finished.status == 0, finished.err
    serve = tf.saved_model.load(str(tmp_path / "search" / "1")).signatures["serving_default"]
    answers = serve(text=tf.constant(["the sea", "rose"]))
    assert answers["document"].shape == (2, 2)
    assert set(answers["document"].numpy().ravel()) <= {b"the rose", b"a sea", b"the grass ?"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--loss", "triplet", "--scale", "3"), "--scale does not apply to --loss triplet"),
        (("--loss", "cosine"), "--loss cosine needs the scores of pairs; pass --score COLUMN"),
        (("--score", "s", "--symmetric"), "--symmetric does not apply to --loss cosent"),
        (("--matryoshka", "16,x"), "expected --matryoshka to be sizes such as 384,192, received"),
        (("--keep-head",), "--keep-head does not apply to --task embedding"),
        (("--probe-epochs", "3"), "--probe-epochs does not apply to --task embedding"),
        (("--text", "question", "--negatives", "no"), "pass --text-pair COLUMN"),
        (("--text", "x"), "pairs.tsv:1: expected a column 'x'"),
    ],
)
def test_invalid_options(refused, preset, groups, tmp_path, options, message):
    out = refused("train", "--preset", preset, "--task", "embedding", "--train",
                  groups / "pairs.tsv", "--output", tmp_path / "out", *options)  # fmt: skip
    assert message in out
    assert not (tmp_path / "out").exists()


def test_predict_embeds_single_texts(refused, embedder, groups):
    message = refused("predict", "--model", embedder, "--input", groups / "pairs.tsv", *PAIRS)
    assert "--text-pair does not apply: predict embeds single texts" in message

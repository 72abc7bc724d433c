"""A model of pairs from another package: only the command line can request pairs."""

import json

import pytest

from keras_bert_zoo.export import saved_model
from keras_bert_zoo.export.signatures import ServingGraph
from keras_bert_zoo.export.verify import Verification
from tests.helpers import ASSETS

OTHER_PACKAGE = ASSETS / "bert_classifier"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "nli.tsv"
    path.write_text("a\tb\tlabel\nx y\tz\tyes\na b c\tc\tno\n")
    return path


def test_text_pair_decides(run, refused, table, tmp_path):
    ask = ["predict", "--model", OTHER_PACKAGE, "--input", table, "--text", "a"]
    on_pairs, on_single = run(*ask, "--text-pair", "b").rows, run(*ask).rows
    assert [row["text_pair"] for row in on_pairs] == ["z", "c"]
    assert "text_pair" not in on_single[0]
    assert [row["score"] for row in on_pairs] != [row["score"] for row in on_single]
    measure = ["evaluate", "--model", OTHER_PACKAGE, "--data", table, "--text", "a", "--json"]
    assert run(*measure, "--text-pair", "b").json["rows"] == run(*measure).json["rows"] == 2


def test_the_export_of_pairs(run, refused, monkeypatch, tmp_path):
    import tensorflow as tf

    pairs = []

    class NoVerifier:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def check(self, directory, task, *, tolerance, pair):
            pairs.append(pair)
            return Verification(0, 0.0)

    def build(task, *, pair, **_):
        pairs.append(pair)
        return ServingGraph(tf.Module(), {}, 0)

    monkeypatch.setattr(saved_model, "Verifier", NoVerifier)
    monkeypatch.setattr(saved_model, "build_serving_graph", build)
    command = ["export", "--model", OTHER_PACKAGE, "--output", tmp_path / "nli"]
    finished = run(*command, "--pairs")
    assert (finished.status, finished.err, pairs) == (0, "", [True, True])
    body = finished.out.partition("curl -d '")[2].partition("'")[0]
    (instance,) = json.loads(body)["instances"]
    assert set(instance) == {"text", "text_pair"}
    finished = run(*command)
    assert "warning: The export takes single texts, but the model may have" in finished.err
    assert '"your text"' in finished.out
    assert run(*command, "--no-pairs").err == ""
    assert "--pairs" in refused("export", "--model", ASSETS / "question_answering", "--pairs",
                                "--output", tmp_path / "qa")  # fmt: skip

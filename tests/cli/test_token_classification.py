"""The commands on --task token-classification."""

import json

import pytest

from keras_bert_zoo.data.conll import read_conll
from tests.cli.conftest import fast

SENTENCES = [
    ("a rose is here", "O B-FLOWER O O"),
    ("the sea is a leaf", "O B-PLACE O O O"),
    ("is the grass here ?", "O O B-FLOWER I-FLOWER O"),
    ("a sky", "O B-PLACE"),
] * 6
TAGS = ["O", "B-FLOWER", "I-FLOWER", "B-PLACE", "I-PLACE"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    blocks = [
        "\n".join(map("\t".join, zip(text.split(), tags.split(), strict=True)))
        for text, tags in SENTENCES
    ]
    (folder / "train.conll").write_text("\n\n".join(blocks) + "\n", "utf-8")
    (folder / "dev.conll").write_text("\n\n".join(blocks[:4]) + "\n", "utf-8")
    (folder / "bad.conll").write_text("a\tB-FLOWER\nb\tI-PLACE\nc\tB-PLACE\n", "utf-8")
    (folder / "new.conll").write_text("a\tB-TREE\n", "utf-8")
    return folder


def test_train_evaluate_predict(run, preset, words, tmp_path):
    model = tmp_path / "tagger"
    options = fast(preset, "--epochs", "9", "--learning-rate", "0.05")
    trained = run(
        "train", *options, "--task", "token-classification", "--train", words / "train.conll",
        "--dev", words / "dev.conll", "--output", model, "--json",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    assert trained.json["dev"]["f1"] == 1.0
    assert "val_f1" in trained.json["training"]["history"]

    measured = run("evaluate", "--model", model, "--data", words / "dev.conll", "--json")
    assert measured.json["f1"] == 1.0
    assert measured.json["labels"]["FLOWER"]["support"] == 2
    table = run("evaluate", "--model", model, "--data", words / "dev.conll")
    assert table.out.startswith("entity F1  1.0000\n")

    other = words / "other.jsonl"
    rows = [
        {"text": "a rose", "entities": [[0, 6, "FLOWER"]]},
        {"text": "the sea", "entities": []},
    ]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    errors = words / "errors.jsonl"
    page = words / "page.html"
    run("evaluate", "--model", model, "--data", other, "--errors", errors, "--html", page)
    assert "a rose" in page.read_text("utf-8")
    listed = [json.loads(line) for line in errors.read_text("utf-8").splitlines()]
    by_text = {row["text"]: row for row in listed}
    assert by_text.keys() == {"a rose", "the sea"}
    wrong = by_text["a rose"]
    assert wrong["row"] == 1
    assert wrong["missed"] == [{"entity": "a rose", "label": "FLOWER", "start": 0, "end": 6}]
    assert {entity["entity"] for entity in wrong["spurious"]} <= {"a", "rose"}

    texts = words / "texts.txt"
    texts.write_text("the grass here\n\na sky", "utf-8")
    answered = run("predict", "--model", model, "--input", texts).rows
    assert [row["text"] for row in answered] == ["the grass here", "", "a sky"]
    assert answered[1]["entities"] == []
    for row in answered:
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["entity"]
    assert [entity["label"] for entity in answered[2]["entities"]] == ["PLACE"]
    check_formats(run, model, words)
    columns = run("predict", "--model", model, "--input", words / "dev.conll", "--format", "conll")
    assert [row["text"] for row in columns.rows][:1] == ["a rose is here"]


def check_formats(run, model, folder):
    """The same sentences in the formats of other tools have the same entities."""
    label_studio, tokens = [], []
    examples = read_conll(folder / "dev.conll")
    for index, (text, entities) in enumerate(zip(examples.texts, examples.entities, strict=True)):
        # As annotators mark them: with the following space.
        spans = [(start, min(end + 1, len(text)), label) for start, end, label in entities]
        results = [
            {"type": "labels", "to_name": "text", "from_name": "label", "value": {
                "start": start, "end": end, "text": text[start:end], "labels": [label]}}
            for start, end, label in [*spans, *spans[:1]]
        ]  # fmt: skip
        label_studio.append({"data": {"text": text}, "annotations": [{"result": results}]})
        tags = SENTENCES[index][1].split()
        tokens.append({"tokens": text.split(), "ner_tags": [TAGS.index(tag) for tag in tags]})
    for name, content, options, note in (
        ("studio.json", json.dumps(label_studio), (), "Label Studio's tasks: FLOWER 2, PLACE 2"),
        (
            "tokens.jsonl",
            "\n".join(map(json.dumps, tokens)),
            ("--tag-names", ",".join(TAGS)),
            "words from 'tokens', tags from 'ner_tags' (IOB2): FLOWER 2, PLACE 2",
        ),
    ):
        (folder / name).write_text(content, "utf-8")
        measured = run("evaluate", "--model", model, "--data", folder / name, "--json", *options)
        assert measured.status == 0, measured.err
        assert measured.json["f1"] == 1.0, name
        assert sum(kind["support"] for kind in measured.json["labels"].values()) == 4
        assert f"{folder / name}: {note}" in measured.err
        counted = ("are repeated" in measured.err, "trimmed white space" in measured.err)
        assert counted == (name == "studio.json",) * 2


def test_invalid_input(refused, preset, words, tmp_path):
    def train(file, *more):
        return refused(
            "train", *fast(preset), "--task", "token-classification", "--train", words / file,
            "--output", tmp_path / "none", *more,
        )  # fmt: skip

    assert train("bad.conll").startswith(
        f"{words}/bad.conll:2: expected I- only within an entity of its type, "
        "received 'I-PLACE' after"
    )
    assert train("train.conll", "--tag-scheme", "IOB1").startswith(
        f"{words}/train.conll:2: expected B- only between two entities of one type, received"
    )
    assert train("train.conll", "--dev", words / "new.conll") == (
        f"{words}/new.conll:1: expected a label of FLOWER, PLACE, received 'TREE'"
    )
    assert train("train.conll", "--probe-epochs", "3") == (
        "--probe-epochs does not apply to --task token-classification"
    )
    (words / "two.conll").write_text("a\tB-TREE\tO\nb\tO\tB-SEA\n", "utf-8")
    assert "several look like tags" in train("two.conll")
    (words / "ids.jsonl").write_text('{"tokens": ["a"], "ner_tags": [1]}\n', "utf-8")
    assert "with `--tag-names`, such as O,B-PER" in train("ids.jsonl")
    assert "a column number from 1" in train("train.conll", "--tag-column", "0")
    assert not (tmp_path / "none").exists()

"""JSON of annotation tools: forms, offsets in both units, and all errors."""

import gzip
import io
import json
import os
import threading

import pytest

from keras_bert_zoo.data.entity_files import read_entities
from keras_bert_zoo.data.spans import Entity
from keras_bert_zoo.errors import ConfigError, DataError

# 16-bit units, characters and bytes all differ: an emoji with a skin tone, a combining mark.
TEXT = "\U0001f468\U0001f3fb Zoe\u0308 in 北京, \U0001f600!"
ZOE = (3, 7)  # in characters; in UTF-16 units 5 to 9
BEIJING = (11, 13)  # 13 to 15
ENTITIES = [Entity(*ZOE, "PER"), Entity(*BEIJING, "LOC")]
UTF16 = [[5, 9, "PER"], [13, 15, "LOC"]]
CHARACTERS = [[*ZOE, "PER"], [*BEIJING, "LOC"]]


def read(tmp_path, content, name="data.json", **options):
    path = tmp_path / name
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str) and name.endswith(".jsonl"):
        text = "\n".join(json.dumps(record) for record in content)
    path.write_text(text, "utf-8")
    return read_entities(path, **options)


def refused(tmp_path, content, **options):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **options)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/data.json")
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/data.json")


def task(text, spans, *, key="text", **more):
    """A task as Label Studio 1.x exports it."""
    results = [
        {
            "value": {"start": start, "end": end, "text": said, "labels": labels},
            "id": f"r{start}", "from_name": "label", "to_name": "text", "type": "labels",
            "origin": "manual",
        }
        for start, end, said, labels in spans
    ]  # fmt: skip
    annotation = {"id": 7, "completed_by": 1, "result": results, "was_cancelled": False}
    return {
        "id": 1,
        "annotations": [annotation | more],
        "predictions": [],
        "data": {key: text},
        "meta": {},
    }


SAID = ["Zoe\u0308", "北京"]


@pytest.mark.parametrize(
    ("content", "options", "note"),
    [
        ([{"text": TEXT, "entities": CHARACTERS}], {}, "texts with entities, entities from"),
        (
            [{"text": TEXT, "spans": [{"start": s, "end": e, "label": n, "token_start": 0}
                                      for s, e, n in CHARACTERS], "answer": "accept"}],
            {},
            "texts with entities, entities from 'spans' (characters): PER 1, LOC 1",
        ),
        (
            [{"id": 3, "text": TEXT, "label": UTF16, "Comments": []}],
            {"offsets": "utf16"},
            "doccano's form, entities from 'label' (UTF-16 units): PER 1, LOC 1",
        ),
        (
            [{"id": 3, "text": TEXT, "label": CHARACTERS}],
            {"offsets": "characters"},
            "doccano's form, entities from 'label' (characters)",
        ),
        (
            [{"text": TEXT, "entities": [{"id": 1, "label": n, "start_offset": s, "end_offset": e}
                                         for s, e, n in UTF16], "relations": []}],
            {"offsets": "utf16"},
            "doccano's form, entities from 'entities' (UTF-16 units)",
        ),
        (
            # The second text has no fifth character.
            [{"text": TEXT, "labels": UTF16}, {"text": "\U0001f600 ab", "labels": [[3, 5, "X"]]}],
            {},
            "doccano's form, entities from 'labels' (UTF-16 units): PER 1, LOC 1, X 1",
        ),
        (
            [{"text": TEXT, "labels": CHARACTERS}, {"text": "\U0001f600", "labels": [[0, 1, "X"]]}],
            {},
            "doccano's form, entities from 'labels' (characters): PER 1, LOC 1, X 1",
        ),
        (
            [task(TEXT, [(s, e, t, [n]) for (s, e, n), t in zip(UTF16, SAID, strict=True)])],
            {},
            "Label Studio's tasks (UTF-16 units): PER 1, LOC 1",
        ),
        (
            [task(TEXT, [(s, e, t, [n]) for (s, e, n), t in zip(CHARACTERS, SAID, strict=True)])],
            {},
            "Label Studio's tasks (characters): PER 1, LOC 1",
        ),
        (
            [{"id": 1, "sentence": TEXT, "ner": [
                {"start": s, "end": e, "text": t, "labels": [n]}
                for (s, e, n), t in zip(UTF16, SAID, strict=True)
            ]}],
            {"text": "sentence"},
            "Label Studio's JSON_MIN, entities from 'ner' (UTF-16 units): PER 1, LOC 1",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_every_form_has_the_same_entities(tmp_path, content, options, note, name):
    examples = read(tmp_path, content, name, **options)
    assert examples.texts[0] == TEXT
    assert examples.entities[0] == ENTITIES
    assert [TEXT[e.start : e.end] for e in examples.entities[0]] == SAID
    assert examples.note.startswith(note)
    assert examples.path == str(tmp_path / name)


def test_skipped_tasks_of_label_studio_are_counted(tmp_path, caplog):
    old = {"id": 4, "data": {"body": "Ada"}, "completions": [{"result": []}]}
    twice = task("Ada\r\nran", [(0, 6, "Ada\\nr", ["P"])], key="body")
    twice["annotations"] *= 2  # two annotators who agree
    twice["annotations"][0]["result"] += [
        {"type": "choices", "value": {"choices": ["x"]}},
        {"type": "labels", "to_name": "text", "value": {"start": 0, "end": 1}},
    ]
    unlike = task("Ada", [(0, 2, "Ad", ["P"])], key="body", ground_truth=True)
    unlike["annotations"].append(task("", [(0, 3, "Ada", ["P"])])["annotations"][0])
    content = json.dumps(
        [
            {"id": 1, "data": {"body": "x"}, "annotations": []},
            task("skipped", [], key="body", was_cancelled=True),
            twice,
            unlike,
            old,
        ],
        indent=1,
    )
    examples = read(tmp_path, content)
    assert examples.texts == ["Ada\r\nran", "Ada", "Ada"]
    assert examples.entities == [[Entity(0, 6, "P")], [Entity(0, 2, "P")], []]
    lines = content.split("\n")
    assert all(lines[row - 1] == " {" for row in examples.rows)
    assert examples.rows == sorted(set(examples.rows))
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "skipped 2 tasks without annotations or skipped by the annotator",
        "skipped 1 results of other types than labels",
        "skipped 1 regions without a label",
    ]


def test_words_with_tags(tmp_path, caplog):
    record = {"id": "0", "tokens": ["Zoë", "\n", "in", "北京", "."], "ner_tags": [1, 0, 0, 3, 0]}
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    examples = read(tmp_path, [record], tag_names=names)
    assert examples.texts == ["Zoë in北京."]
    assert examples.entities == [[Entity(0, 3, "PER"), Entity(6, 8, "LOC")]]
    assert examples.words == [[(0, 3), (4, 6), (6, 8), (8, 9)]]
    assert examples.note == "words from 'tokens', tags from 'ner_tags' (IOB2): PER 1, LOC 1"
    assert "skipped 1 white-space tokens" in caplog.text
    named = record | {"ner_tags": [names[tag] for tag in record["ner_tags"]]}
    assert read(tmp_path, [named], "data.jsonl").entities == examples.entities
    spaced = named | {"text": "Zoë  in 北京 ."}
    assert read(tmp_path, [spaced]).entities == [[Entity(0, 3, "PER"), Entity(8, 10, "LOC")]]
    parts = {"words": ["a", "dog"], "pos_tags": ["DET", "NOUN"], "chunk": ["B", "I"]}
    examples = read(tmp_path, [parts], entities="pos_tags")
    assert examples.labels == ["DET", "NOUN"]
    suffixes = {"tokens": ["Ada", "L", "x"], "tags": ["PER_B", "PER_I", "O"]}
    assert read(tmp_path, [suffixes]).entities == [[Entity(0, 5, "PER")]]


def test_rejected_examples_of_prodigy_are_skipped(tmp_path, caplog):
    span = {"start": 0, "end": 3, "label": "P"}
    records = [
        {"text": "Ada", "spans": [span], "answer": "accept", "tokens": [{"text": "Ada"}]},
        {"text": "Eve", "spans": [span], "answer": "reject"},
        {"text": "Nobody", "answer": "accept"},
    ]
    examples = read(tmp_path, records, "data.jsonl")
    assert (examples.texts, examples.rows) == (["Ada", "Nobody"], [1, 3])
    assert examples.entities == [[Entity(0, 3, "P")], []]
    assert "skipped 1 rejected or ignored records" in caplog.text


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.jsonl.gz"])
def test_a_pipe_is_opened_once(tmp_path, name):
    record = json.dumps({"text": TEXT, "entities": CHARACTERS})
    text = (f"[{record}]" if name == "data.json" else record).encode()
    path = tmp_path / name
    os.mkfifo(path)
    content = gzip.compress(text) if name.endswith(".gz") else text
    writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
    writer.start()
    assert read_entities(path).entities == [ENTITIES]
    writer.join(10)


def test_streams_gzip_and_marks(tmp_path):
    data = json.dumps([{"text": "Ada", "entities": [[0, 3, "P"]]}]).encode()
    expected = [[Entity(0, 3, "P")]]
    assert read_entities(io.BytesIO(b"\xef\xbb\xbf\n " + data)).entities == expected
    assert read_entities(io.BytesIO(data[1:-1] + b"\n")).entities == expected
    (tmp_path / "data.json.gz").write_bytes(gzip.compress(data))
    assert read_entities(tmp_path / "data.json.gz").entities == expected
    (tmp_path / "data.json").write_bytes(data.decode().encode("utf-16"))
    assert read_entities(tmp_path / "data.json", encoding="utf-16").entities == expected
    with pytest.raises(DataError, match="data.json:1: not valid utf-8: .*give `encoding=utf-16`"):
        read_entities(tmp_path / "data.json")
    with pytest.raises(DataError, match="there is no such file"):
        read_entities(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="expected offsets of auto, characters, utf16"):
        read_entities(tmp_path / "data.json", offsets="bytes")


SPAN = {"start": 0, "end": 1, "labels": ["X"]}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        # Both units are possible.
        (
            [{"text": TEXT, "label": UTF16}],
            {},
            (":1: expected offsets of a clear unit, "
"received offsets that may be characters or UTF-16"),
        ),
        ([task(TEXT, [(1, 4, "Zoe", ["X"])])], {}, ":1: expected the entities at their offsets in"),
        ([task("Ada", [(0, 3, "Eve", ["X"])])], {}, ":1: expected the entity 'Eve' at 0 to 3"),
        ([task("Ada", [(0, 3, "Ada", "X")])], {}, ":1: expected 'labels' to be a list"),
        (
            [{"data": {"a": "x", "b": "y"}, "annotations": [{"result": []}]}],
            {},
            ":1: expected a key 'text' in 'data', received 'a', 'b'; give the",
        ),
        (
            [{"data": {"text": "x"}, "annotations": [{"result": [{"type": "hypertextlabels"}]}]}],
            {},
            ":1: expected labels of a Text",
        ),
        (
            [{"id": 5, "data": {"text": "x"}, "annotations": [
                {"result": [{"type": "labels", "value": SPAN}]}, {"result": []}]}],
            {},
            ":1: expected one annotation of a text, received 2 that differ (task 5)",
        ),
        ([{"data": {}, "annotations": [3]}], {}, ":1: expected 'annotations' to be a list of obj"),
        ([{"data": {"text": "x"}, "annotations": []}], {}, ": expected at least one text"),
        ([task("Ada", []), {"text": "x"}], {}, ":1: expected a task of Label Studio"),
        (
            [{"text": "\U0001f600 a", "entities": [[3, 4, "X"]]}],
            {},
            (":1: expected an entity with 0 <= start < end <= 3, the characters of its text, "
"received 3"),
        ),
        (
            [{"text": "\U0001f600", "label": [[1, 2, "X"]]}],
            {"offsets": "utf16"},
            (":1: expected an offset in UTF-16 units, from 0 to 2 and not within a character, "
"received 1"),
        ),
        ([{"text": "a", "entities": None}], {}, (":1: expected 'entities' to be a list, "
"received null")),
        ([{"text": "ab", "a": [[0, 1, "X"]], "b": [[1, 2, "X"]]}], {}, ": expected entities under"),
        ([{"text": "a", "label": ["sports"]}], {}, ":1: expected an entity as an object"),
        ([{"tokens": ["a"], "ner_tags": [1]}], {}, (":1: expected tags as strings, "
"received the number")),
        (
            [{"tokens": ["a"], "ner_tags": [2]}],
            {"tag_names": ["O", "B-X"]},
            ":1: expected a tag from 0 to 1, received 2",
        ),
        ([{"tokens": ["a"], "ner_tags": []}], {}, (":1: expected a tag for each word, "
"received 1 in")),
        ([{"tokens": ["a"], "pos": ["X"]}], {}, ": expected the tags of the words under one key"),
        ([{"tokens": ["a", "b"], "tags": ["O", "E-X"]}], {}, ":1: expected E- only with"),
        ([{"tokens": [], "tags": []}], {}, ": expected at least one word, received none"),
        ('[{"text": "a", "entities": [[0, 1, "\\ud800"]]}]', {}, ":1: expected the label of an"),
        ('[{"text": "\\ud800", "entities": []}]', {}, (":1: expected characters in 'text', "
"received ha")),
        ("[", {}, ":1: not valid JSON"),
        ("[]", {}, ": expected at least one line, but the file is empty"),
        ("[{}\n{}]", {}, ":2: not valid JSON: expected a comma or a closing bracket"),
        ('[{"a":' + "[" * 100_000, {}, ":1: not valid JSON"),
        ('[{"text": "a", "entities": []}] x', {}, ": not valid JSON: expected nothing after"),
        ("[3]", {}, ":1: expected a list of objects, received 3 in it"),
    ],
)  # fmt: skip
def test_refused(tmp_path, content, options, message):
    assert refused(tmp_path, content, **options).startswith(message)


def test_a_path_with_a_nul():
    with pytest.raises(DataError, match="cannot read: embedded null"):
        read_entities("a\0b.json")

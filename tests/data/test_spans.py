"""Texts with entities in JSON Lines."""

import json

import pytest

from keras_bert_zoo.data.entity_files import read_entities
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.errors import ConfigError, DataError


def read(tmp_path, *records, **options):
    path = tmp_path / "spans.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return read_entities(path, **options)


def test_objects_and_lists(tmp_path):
    examples = read(
        tmp_path,
        {"text": "Ada in Köln", "entities": [[7, 11, "LOC"], {"start": 0, "end": 3, "label": "P"}]},
        "",
        {"text": "", "entities": []},
    )
    assert examples.entities == [[Entity(0, 3, "P"), Entity(7, 11, "LOC")], []]
    assert examples.rows == [1, 3]
    named = read(
        tmp_path, {"sentence": "天气", "label": [[0, 2, "X"]]}, text="sentence", entities="label"
    )
    assert named.entities == [[Entity(0, 2, "X")]]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "spans.jsonl:2: not valid JSON"),
        ([1], "spans.jsonl:2: expected a JSON object on each line"),
        ({"text": "a"}, "spans.jsonl:2: expected a key 'entities', received 'text'"),
        ({"text": 3, "entities": []}, "spans.jsonl:2: expected 'text' to be a string, received 3"),
        ('{"text": "\\ud800", "entities": []}', "spans.jsonl:2: expected characters in 'text', r"),
        ({"text": "a", "entities": {}}, "spans.jsonl:2: expected 'entities' to be a list"),
        ({"text": "a", "entities": [{"start": 0}]}, "spans.jsonl:2: expected an entity with start"),
        ({"text": "a", "entities": [[0, 1]]}, "spans.jsonl:2: expected an entity as an object"),
        ({"text": "a", "entities": [[0, 2, "X"]]}, "spans.jsonl:2: expected an entity with 0 <= "),
        ({"text": "a", "entities": [[0, 0, "X"]]}, "spans.jsonl:2: expected an entity with 0 <= "),
        ({"text": "a", "entities": [[0.0, 1, "X"]]}, "spans.jsonl:2: expected start and end of an"),
        ({"text": "a", "entities": [[0, True, "X"]]}, "spans.jsonl:2: expected start and end"),
        ({"text": "a", "entities": [[0, 1, "O"]]}, "spans.jsonl:2: expected the label of an"),
        ({"text": "a", "entities": [[0, 1, ""]]}, "spans.jsonl:2: expected the label of an entity"),
        (
            {"text": "ab", "entities": [{"start": 0, "end": 1, "label": "X", "text": "b"}]},
            (
                "spans.jsonl:2: expected the entity 'b' at 0 to 1, "
                "received 'a'; offsets count characters"
            ),
        ),
    ],
)
def test_refused(tmp_path, record, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"text": "fine", "entities": []}, record)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)


def test_white_space_at_ends_is_trimmed_and_repeats_are_dropped(tmp_path, caplog):
    text = "\u3000Ada Lovelace \n in Köln\u00a0"
    examples = read(
        tmp_path,
        {"text": "none", "entities": []},
        {"text": text, "entities": [[0, 15, "P"], [1, 13, "P"], [19, 24, "L"], [19, 23, "M"]]},
    )
    assert examples.entities[1] == [Entity(1, 13, "P"), Entity(19, 23, "L"), Entity(19, 23, "M")]
    place = f"{tmp_path}/spans.jsonl"
    trimmed, repeated = (message.removeprefix(f"{place}: ") for message in caplog.messages)
    assert trimmed.startswith("trimmed white space at the ends of 2 of 4 entities; first in ")
    assert repeated == f"dropped 1 of 4 entities that are repeated; first in {place}:2"
    caplog.clear()
    assert examples[1:].entities == examples.entities[1:]
    assert caplog.messages == []
    with pytest.raises(DataError, match=r"spans.jsonl:1: expected text in the entity from 1 to 3"):
        read(tmp_path, {"text": "a  b", "entities": [[1, 3, "X"]]})
    with pytest.raises(
        DataError, match="example 2: expected text in the entity from 0 to 1, received"
    ):
        EntityExamples(["a", b" "], [[], [(0, 1, "X")]])


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least one line"):
        read(tmp_path, "")


def test_parts():
    examples = EntityExamples(list("abcdef"), [[(0, 1, "X")]] * 6, [[(0, 1)]] * 6, path="f")
    rest, held_out = examples.split(1 / 3, seed=1)
    assert sorted([*rest.texts, *held_out.texts]) == list("abcdef")
    assert len(held_out) == 2
    assert examples.split(1 / 3, seed=1)[1].texts == held_out.texts
    assert examples[2:4].rows == [3, 4]
    assert examples[2:2].rows == []
    assert examples.labels == ["X"]
    with pytest.raises(ConfigError, match="a fraction between 0 and 1"):
        examples.split(1.5, seed=0)
    with pytest.raises(DataError, match="one part would be empty"):
        examples[:1].split(0.5, seed=0)
    with pytest.raises(DataError, match="expected 1 words, one per text, received 0"):
        EntityExamples(["a"], None, [])
    with pytest.raises(DataError, match="example 1: expected an entity .* received 0 to 5"):
        EntityExamples(["a"], [[(0, 5, "X")]])

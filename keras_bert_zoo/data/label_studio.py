"""Reads the tasks of Label Studio's JSON export.

A task is `{"id": 1, "data": {"text": ...}, "annotations": [{"result": [{"type": "labels", "value":
{"start", "end", "text", "labels": [...]}}, ...], "was_cancelled": false}]}`; before 1.0,
"annotations" were "completions".

Source: https://labelstud.io/guide/export, "Raw JSON format of completed labeled tasks".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.json_records import shown
from keras_bert_zoo.data.offset_units import FoundSpan, FoundText
from keras_bert_zoo.errors import DataError

__all__ = ["is_task", "read_tasks"]

_ANNOTATIONS = ("annotations", "completions")

_logger = logging.getLogger(__name__)


def is_task(record: dict[str, Any]) -> bool:
    """Whether a record is a task of Label Studio."""
    return isinstance(record.get("data"), dict) and any(name in record for name in _ANNOTATIONS)


def read_tasks(
    name: str, records: Sequence[tuple[int, dict[str, Any]]], text: str
) -> list[FoundText]:
    """Reads the texts and entities of tasks.

    Args:
        name: str. The file's name, for messages.
        records: the line of each task, and the task.
        text: str. The key of the text in "data". Without this key, "data" must have one string.

    Returns:
        list of FoundText, one per annotated task.

    Raises:
        DataError: a task is invalid, with its line.
    """
    texts = []
    unlabelled = 0
    unannotated = other = 0
    for row, task in records:
        where = f"{name}:{row}"
        if not is_task(task):
            raise DataError(f"{where}: expected a task of Label Studio, received {shown(task)}")
        results = _chosen(where, task)
        if results is None:
            unannotated += 1
            continue
        spans = []
        targets = set()
        for result in results:
            if not isinstance(result, dict):
                raise DataError(f"{where}: expected results as objects, received {shown(result)}")
            if result.get("type") != "labels":
                if str(result.get("type")).endswith("labels"):
                    raise DataError(
                        f"{where}: expected labels of a Text, received a result of the type "
                        f"{clipped(repr(result['type']))}, which has no character offsets"
                    )
                other += 1
                continue
            targets.add(str(result.get("to_name")))
            value = result.get("value")
            if not isinstance(value, dict) or not {"start", "end"} <= value.keys():
                raise DataError(
                    f"{where}: expected a result's value with start and end, "
                    f"received {shown(value)}"
                )
            labels = value.get("labels")
            if not labels:
                unlabelled += 1
                continue
            if not isinstance(labels, list):
                raise DataError(
                    f"{where}: expected 'labels' to be a list, received {shown(labels)}"
                )
            spans += [
                FoundSpan(value["start"], value["end"], label, value.get("text"))
                for label in labels
            ]
        if len(targets) > 1:
            raise DataError(
                f"{where}: expected labels of one text, "
                f"received labels of {', '.join(sorted(targets))}"
            )
        texts.append(FoundText(row, _text_of(where, task["data"], text), spans))
    for count, what in (
        (unannotated, "tasks without annotations or skipped by the annotator"),
        (other, "results of other types than labels"),
        (unlabelled, "regions without a label"),
    ):
        if count:
            _logger.warning("%s: skipped %s %s", name, f"{count:,}", what)
    return texts


def _chosen(where: str, task: dict[str, Any]) -> list[Any] | None:
    """The results of a task's annotation; None without one."""
    key = next(name for name in _ANNOTATIONS if name in task)
    annotations = task[key]
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError(
            f"{where}: expected {key!r} to be a list of objects, "
            f"received {shown(annotations)}; export "
            "the tasks as JSON with their annotations"
        )
    annotations = [
        one
        for one in annotations
        if not one.get("was_cancelled") and not one.get("skipped") and "result" in one
    ]
    for one in annotations:
        if not isinstance(one["result"], list):
            raise DataError(
                f"{where}: expected 'result' to be a list, received {shown(one['result'])}"
            )
    truths = [one for one in annotations if one.get("ground_truth")]
    if len(truths) == 1:
        annotations = truths
    if not annotations:
        return None
    first = annotations[0]["result"]
    if any(_places(one["result"]) != _places(first) for one in annotations[1:]):
        raise DataError(
            f"{where}: expected one annotation of a text, received {len(annotations)} that differ "
            f"(task {clipped(str(task.get('id')))}); mark one as ground truth, or delete the others"
        )
    return list(first)


def _places(results: list[Any]) -> set[str]:
    """The places and labels of regions, as strings, to compare annotations."""
    places = set()
    for result in results:
        if isinstance(result, dict) and str(result.get("type")).endswith("labels"):
            value = result.get("value")
            if isinstance(value, dict) and value.get("labels"):
                places.add(repr([value.get(name) for name in ("start", "end", "labels")]))
    return places


def _text_of(where: str, data: dict[str, Any], key: str) -> str:
    if key not in data:
        strings = [name for name, value in data.items() if isinstance(value, str)]
        if len(strings) != 1:
            keys = ", ".join(repr(clipped(name)) for name in list(data)[:8]) or "none"
            raise DataError(
                f"{where}: expected a key {key!r} in 'data', "
                f"received {keys}; give the key of the text "
                "with `text=KEY`"
            )
        key = strings[0]
    value = data[key]
    if not isinstance(value, str):
        raise DataError(
            f"{where}: expected {key!r} in 'data' to be a string, received {shown(value)}"
        )
    return value

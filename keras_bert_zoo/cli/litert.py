"""LiteRT models for the commands: predictions, and the requests of bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.export.litert.interpreter import LiteRTModel


def check_takes_texts(path: str) -> None:
    """Checks that a LiteRT model takes strings.

    Args:
        path: str.

    Raises:
        ConfigError: it takes token ids.
        DataError: see `read_model`.
    """
    from keras_bert_zoo.export.litert.model_file import read_model

    if read_model(path)[1].get("input") != "text":
        raise ConfigError(
            f"{path} takes token ids; predict needs a model that was exported with --input text"
        )


def answered(model: LiteRTModel, columns: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Yields the answers to texts, one row each.

    Args:
        model: LiteRTModel.
        columns: name of the input -> list of texts, or of lists of texts.
        size: int. Rows per request, if the model takes any number.

    Yields:
        name -> value for JSON, the texts included.
    """
    count = len(next(iter(columns.values())))
    fixed = _fixed_size(model)
    for begin in range(0, count, fixed or size):
        end = min(begin + (fixed or size), count)
        # A model of a fixed number of rows gets the last text again.
        numbers = [min(begin + i, count - 1) for i in range(fixed or end - begin)]
        request = {name: [texts[i] for i in numbers] for name, texts in columns.items()}
        answers = model(**request)
        for row in range(end - begin):
            yield {
                **{name: texts[begin + row] for name, texts in columns.items()},
                **{name: plain(answers[name][row]) for name in model.outputs},
            }


def plain(value: Any) -> Any:
    """Converts a value of an answer, or an array of values, for JSON."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    values = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(values, list):
        return [plain(part) for part in values]
    if isinstance(values, float):
        return float(f"{values:.6g}")
    return values.decode("utf-8", "replace") if isinstance(values, bytes) else values


def load_to_measure(
    path: str, threads: int | None
) -> tuple[Callable[[Mapping[str, Any]], Any], dict[str, list[int]]]:
    """Loads a LiteRT model for bench.

    Args:
        path: str.
        threads: int or None.

    Returns:
        a function that answers a request of texts; the shapes of its inputs without the rows. A
        model of token ids gets one id per word.
    """
    from keras_bert_zoo.export.litert.interpreter import litert_interpreter

    model = litert_interpreter(path, threads=threads)
    if model.info.get("input") == "text":
        shapes = {name: [int(n or 1) for n in shape[1:]] for name, shape in model.inputs.items()}
        return lambda request: list(_batches(model, request)), shapes
    shape = model.inputs["token_ids"]
    if len(shape) != 2 or model.inputs.keys() != {"token_ids", "segment_ids", "padding_mask"}:
        raise ConfigError(f"bench has no requests for the inputs {sorted(model.inputs)} of {path}")

    def answer(request: Mapping[str, Any]) -> Any:
        return list(_batches(model, _ids(request["text"], shape[1])))

    return answer, {"text": []}


def _fixed_size(model: LiteRTModel) -> int | None:
    return next(iter(model.inputs.values()))[0]


def _batches(model: LiteRTModel, request: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the answers to a request in parts of the model's fixed number of rows."""
    count = len(next(iter(request.values())))
    size = _fixed_size(model) or count
    for begin in range(0, count, size):
        part = [min(begin + i, count - 1) for i in range(size)]
        yield model(**{name: [rows[i] for i in part] for name, rows in request.items()})


def _ids(texts: list[str], length: int | None) -> dict[str, Any]:
    """Makes token ids: one per word and two at the ends, padded or cut to a fixed length."""
    import numpy as np

    words = min(len(texts[0].split()) + 2, length or 512)
    mask = np.zeros([len(texts), length or words], np.int32)
    mask[:, :words] = 1
    return {"token_ids": 5 * mask, "segment_ids": 0 * mask, "padding_mask": mask}

"""Checks of the options of a collection."""

from __future__ import annotations

from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import check_integer, is_number, show


def check_search(*, top_passages: Any = 1, top_k: Any = 1, retriever_weight: Any = 0.0) -> None:
    """Raises ConfigError for values that `OpenDomainQuestionAnswerer` does not accept."""
    check_integer("top_passages", top_passages, minimum=1, maximum=1000)
    # The graph contains the search for each span of a passage.
    check_integer("top_k", top_k, minimum=1, maximum=100)
    checked_weight(retriever_weight)


def checked_weight(value: Any) -> float:
    """Returns a `retriever_weight` as a float, or raises ConfigError."""
    if not is_number(value) or not 0 <= value < 1e6:
        raise ConfigError(
            "Expected `retriever_weight` to be a number of at least 0 and below 1,000,000, "
            f"received {show(value)}."
        )
    return float(value)

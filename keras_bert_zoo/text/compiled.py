"""Functions of texts, compiled once for all equal tokenizers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["CompiledFunctions", "functions_of"]

# An entry lives as long as one of its tokenizers.
_SHARED: weakref.WeakValueDictionary[Hashable, CompiledFunctions] = weakref.WeakValueDictionary()


class CompiledFunctions:
    """The compiled functions of a tokenizer, or of several equal ones.

    It is a plain object. If it were a `tf.Module`, a model with a tokenizer would save them all.
    """

    def __init__(self) -> None:
        self._functions: dict[Hashable, Any] = {}

    def get(
        self, key: Hashable, function: Callable[..., Any], signature: Sequence[tf.TensorSpec]
    ) -> Any:
        """Returns a function for a graph, which is traced at its first call.

        Args:
            key: names the function and its options.
            function: the function that is compiled if the key is new. Autograph is off, because no
                Python code needs conversion.
            signature: the inputs.
        """
        if key not in self._functions:
            self._functions[key] = tf.function(function, input_signature=signature, autograph=False)
        return self._functions[key]


def functions_of(contents: tuple[Hashable, ...] | None) -> CompiledFunctions:
    """Returns the functions of all tokenizers with these contents, or new ones for None."""
    return (
        CompiledFunctions()
        if contents is None
        else _SHARED.setdefault(contents, CompiledFunctions())
    )

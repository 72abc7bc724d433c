"""Functions of texts, compiled once for all equal tokenizers."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_zoo.litert_scope import is_for_litert

__all__ = ["CompiledFunctions", "SharesFunctions"]

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


class SharesFunctions:
    """A base class whose equal objects share compiled functions of texts.

    A subclass overrides `_contents`. Objects of a subclass without an own `_contents` share none,
    because they may depend on more.

    Example:
        >>> from keras_bert_zoo.text import WordPieceTokenizer
        >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
        >>> one, two = WordPieceTokenizer(tokens), WordPieceTokenizer(tokens)
        >>> one._functions is two._functions
        True
    """

    options: Any

    def _contents(self) -> tuple[Any, ...]:
        """Returns a class, and what its functions depend on apart from its options; hashable."""
        return (SharesFunctions,)

    @functools.cached_property
    def _functions(self) -> CompiledFunctions:
        owner, *contents = self._contents()
        if owner is not type(self):
            return CompiledFunctions()
        values = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, str | int | float | None)
        }
        key = (owner, *contents, *sorted(values.items(), key=lambda item: item[0]))
        return _SHARED.setdefault(key, CompiledFunctions())

    def _compiled(
        self, key: tuple[Any, ...], function: Callable[..., Any], *strings: tf.Tensor
    ) -> Any:
        """Calls a function of texts, which is compiled once for each key."""
        signature = [tf.TensorSpec([None], tf.string)] * len(strings)
        key = (*key, len(strings), is_for_litert())
        return self._functions.get(key, function, signature)(*strings)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute. Functions that were compiled before do not depend on it."""
        self.__dict__.pop("_functions", None)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Drops compiled functions, which cannot be copied or pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_functions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Sets the attributes; earlier versions have stored an empty dict of functions."""
        self.__dict__.update(state)
        self.__dict__.pop("_functions", None)

"""The name tables of one family."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from keras_bert_zoo.config import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class FamilyNames:
    """The names of one family's tensors.

    All names are those of a model with a head. A bare encoder's file drops `prefix`.

    Attributes:
        prefix: the prefix of the encoder in a model with a head, such as "bert.".
        encoder: config -> {variable path: tensor name} for the encoder without its pooler.
        poolers: head -> {variable path: tensor name}. "" is the pooler of the bare encoder, and of
            all heads without an entry. In some families, the dense layer before a classifier has
            another name than the pooler of the bare encoder.
        heads: head -> {head's variable path: tensor name}.
        architectures: head -> transformers class. "" is the bare encoder. Two heads in one model
            are joined by "+", in alphabetical order.
        tied: tensor name -> the tensor that it repeats. It may be missing; otherwise it is equal.
        ignored: regular expressions of tensors that are not weights.
        other_heads: regular expressions of further tensors of heads. Loading the encoder alone
            skips them.

    Example:
        >>> from keras_bert_zoo.checkpoints.names import names_of
        >>> names_of("bert").pooler()["pooler/dense/kernel"]
        'bert.pooler.dense.weight'
    """

    prefix: str
    encoder: Callable[[EncoderConfig], dict[str, str]]
    poolers: Mapping[str, dict[str, str]] = field(default_factory=dict)
    heads: Mapping[str, dict[str, str]] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    other_heads: tuple[str, ...] = ()

    def pooler(self, head: str = "") -> dict[str, str]:
        """Returns the names of a head's pooler. Empty: the head has no pooler."""
        return dict(self.poolers.get(head, self.poolers.get("", {})))

    def in_file(self, table: Mapping[str, str], prefix: str) -> dict[str, str]:
        """Returns a table with the encoder's prefix replaced by `prefix`."""
        return {path: self._rename(name, prefix) for path, name in table.items()}

    def prefix_of(self, names: Iterable[str]) -> str:
        """Returns the prefix of the encoder in a file: `prefix`, or "" for a bare encoder."""
        return self.prefix if any(name.startswith(self.prefix) for name in names) else ""

    def head_patterns(self, prefix: str) -> list[str]:
        """Returns regular expressions of all tensors of heads and poolers in a file."""
        return [re.escape(name) for name in self.head_names(prefix)] + [*self.other_heads]

    def head_names(self, prefix: str) -> list[str]:
        """Returns the names in a file of the tensors of all heads and poolers."""
        tables = [*self.heads.values(), *self.poolers.values()]
        names = {self._rename(name, prefix) for table in tables for name in table.values()}
        return sorted(names | set(self.tied))

    def _rename(self, name: str, prefix: str) -> str:
        return prefix + name.removeprefix(self.prefix) if name.startswith(self.prefix) else name


def is_transposed(path: str) -> bool:
    """Whether Hugging Face's checkpoints store the transpose of a variable.

    >>> is_transposed("pooler/dense/kernel"), is_transposed("pooler/dense/bias")
    (True, False)
    """
    return path.endswith("/kernel")

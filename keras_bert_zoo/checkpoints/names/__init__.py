"""Names of variables here and of tensors in Hugging Face's checkpoints: tables of data.

Every other format is brought to Hugging Face's names first, so these are the only tables that know
our variables. They are read in both directions. Hugging Face stores the matrix of a dense layer as
(output, input): variables named `kernel` are transposed on the way.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from keras_bert_zoo.config import EncoderConfig

# Families whose tables stand in a module of another name.
_MODULES = {"deberta-v2": "deberta_v2", "xlm-roberta": "xlm_roberta"}


@dataclass(frozen=True, kw_only=True)
class FamilyNames:
    """The names of one family's tensors.

    All names are those of a model with a head. A bare encoder's file drops `prefix`.

    Attributes:
        prefix: where a model with a head keeps its encoder, "bert." for one.
        encoder: config -> {variable path: tensor name} for the encoder without its pooler.
        poolers: head -> {variable path: tensor name}; "" is the pooler of the bare encoder and of
            every head that has no line of its own. A family may keep the dense layer before a
            classifier under another name than the pooler of its bare encoder.
        heads: head -> {head's variable path: tensor name}.
        architectures: head -> the transformers class that has it; "" is the bare encoder. Two
            heads in one model are joined by "+", in the order of the alphabet.
        tied: tensor name -> the tensor that it repeats: may be missing, and must be equal.
        ignored: regular expressions of tensors that are no weights.
        other_heads: regular expressions of heads' tensors besides those in `heads`, left unread
            when only the encoder is wanted.
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
        """The table of the pooler that a head reads; empty if the family has none for it."""
        return dict(self.poolers.get(head, self.poolers.get("", {})))

    def in_file(self, table: Mapping[str, str], prefix: str) -> dict[str, str]:
        """A table with the names that a file has whose encoder's names start with `prefix`."""
        return {path: self._rename(name, prefix) for path, name in table.items()}

    def prefix_of(self, names: Iterable[str]) -> str:
        """How the encoder's names start in a file: `prefix`, or "" in a bare encoder's."""
        return self.prefix if any(name.startswith(self.prefix) for name in names) else ""

    def head_patterns(self, prefix: str) -> list[str]:
        """Regular expressions of all tensors of heads and poolers in a file."""
        return [re.escape(name) for name in self.head_names(prefix)] + [*self.other_heads]

    def head_names(self, prefix: str) -> list[str]:
        """The tensors of the heads and poolers in these tables, as a file has them."""
        tables = [*self.heads.values(), *self.poolers.values()]
        names = {self._rename(name, prefix) for table in tables for name in table.values()}
        return sorted(names | set(self.tied))

    def _rename(self, name: str, prefix: str) -> str:
        return prefix + name.removeprefix(self.prefix) if name.startswith(self.prefix) else name


def names_of(family: str | EncoderConfig) -> FamilyNames:
    """Returns the tables of a family.

    Args:
        family: one of `encoders.registry.families()`; or a config, where names hang on more than
            the family (DeBERTa's two masked-language-model heads).

    Returns:
        FamilyNames.
    """
    name = family if isinstance(family, str) else family.family
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, name)}")
    if isinstance(family, EncoderConfig) and hasattr(module, "names_for"):
        special: FamilyNames = module.names_for(family)
        return special
    found: FamilyNames = module.NAMES
    return found


def is_transposed(path: str) -> bool:
    """Whether a variable is stored as its transpose in Hugging Face's checkpoints."""
    return path.endswith("/kernel")

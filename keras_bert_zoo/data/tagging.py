"""The tags of a model as numbers, in a scheme of `data.tags`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_bert_zoo.data.tags import OUTSIDE, split_tag
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.crf import FORBIDDEN

__all__ = ["Tagging", "make_tags"]

_PREFIXES = {"IOB2": "BI", "IOBES": "BIES"}
# If a type lacks a prefix, the tag with the next of these is used.
_SUBSTITUTES = {"B": "BI", "I": "IB", "E": "EI", "S": "SBI"}


def make_tags(types: Sequence[str], scheme: str) -> list[str]:
    """Returns the tags for types of entities in a scheme, O first.

    >>> make_tags(["PER"], "IOB2")
    ['O', 'B-PER', 'I-PER']
    """
    if scheme == "words":
        return list(types)
    prefixes = [f"{prefix}-" for prefix in _PREFIXES.get(scheme, "")] or [""]
    return [OUTSIDE, *(prefix + kind for kind in types for prefix in prefixes)]


class Tagging:
    """The tags of a model. Legend: C tags.

    Args:
        tags: list of str, in the order of their ids.
        scheme: "IOB2", "IOBES", "IO" or "words".

    Raises:
        ConfigError: repeated tags, fewer than two, or a tag that is not of the scheme.

    Attributes:
        types: list of str. The types of entities, in the order in which the tags name them.
        type_of_tag: int32 (C,). The number of the type in `types`, from 1; 0 for O.
        begins, ends: bool (C,). Whether the tag says that an entity begins, or ends, at the word.
        outside: int or None. The id of O; None if every word has a label.
    """

    def __init__(self, tags: Sequence[str], scheme: str) -> None:
        if len(set(tags)) != len(tags) or len(tags) < 2:
            raise ConfigError(
                f"A tagger needs at least two different tags, received {list(tags)!r}."
            )
        self.tags, self.scheme = tuple(tags), scheme
        parts = [split_tag(tag, scheme) for tag in tags]
        if scheme in _PREFIXES:
            # A tag without a prefix, X or [CLS], may be a type among others: some heads have it.
            bare = all(prefix == "" for prefix, kind in parts if kind)
            known = {"O", *_PREFIXES[scheme]} | (set() if bare else {""})
            unknown = [tag for tag, part in zip(tags, parts, strict=True) if part[0] not in known]
            if unknown:
                raise ConfigError(
                    f"The tags {unknown[:5]!r} are not of {scheme}. Expected a scheme that has "
                    "them: IO (types without prefixes) or words (a label per word)."
                )
        self.types = list(dict.fromkeys(kind for _, kind in parts if kind))
        numbers = {"": 0} | {kind: number for number, kind in enumerate(self.types, start=1)}
        self.type_of_tag = np.array([numbers[kind] for _, kind in parts], np.int32)
        self._prefixes = np.array([prefix for prefix, _ in parts])
        self.begins = np.isin(self._prefixes, ("B", "S")) | (scheme == "words")
        self.ends = np.isin(self._prefixes, ("E", "S")) | (scheme == "words")
        self._ids = {part: index for index, part in reversed(list(enumerate(parts)))}
        self.outside = self._ids.get(("O", ""))

    def tag_ids(self, kind: str, count: int) -> list[int]:
        """Returns the tags of the `count` words of an entity."""
        prefixes = ["B", *"I" * (count - 1)]
        if self.scheme == "IOBES":
            prefixes = ["S"] if count == 1 else ["B", *"I" * (count - 2), "E"]
        return [
            next(self._ids[p, kind] for p in (*_SUBSTITUTES[prefix], "") if (p, kind) in self._ids)
            for prefix in prefixes
        ]

    def rules(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns which tags may follow each other: 0, or `FORBIDDEN`.

        Returns:
            float32 (C, C) from the row's tag to the column's; (C,) first tags; (C,) last tags.
        """
        types = self.type_of_tag
        inside = np.isin(self._prefixes, ("B", "I"))
        continues = np.isin(self._prefixes, ("I", "E"))  # needs a tag of its type before it
        # In IOBES an entity needs an end, if its type has a tag for it.
        open_ = inside & np.isin(types, types[self._prefixes == "E"])
        same = types[:, np.newaxis] == types
        legal = np.where(continues, inside[:, np.newaxis] & same, ~open_[:, np.newaxis])
        transitions, starts, ends = (
            np.where(mask, np.float32(FORBIDDEN), np.float32(0))
            for mask in (~legal, continues, open_)
        )
        return transitions, starts, ends

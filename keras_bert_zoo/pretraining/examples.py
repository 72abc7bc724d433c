"""Tokenized documents -> examples: ranges of tokens, with or without a second segment.

No token is cut off: the next example begins with the tokens that do not fit. Every token of a
document is in exactly one example as new text, unless it is counted as dropped. The random second
segments of next-sentence prediction are repeated tokens.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Pieces", "make_pieces", "ordered_units"]

_RANDOM_DOCUMENTS = 10  # tries to find another document, as in Google's code


@dataclass
class Pieces:
    """Examples as ranges of a shard's tokens.

    Args:
        first: list of (begin, end), the first segments.
        second: list of (begin, end), the second segments; empty ranges without pairs.
        labels: list of int, the labels of pairs; empty without pairs.
        repeated: int. Tokens of random second segments.
        dropped: reason -> number of tokens.
    """

    first: list[tuple[int, int]] = field(default_factory=list)
    second: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    repeated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, first: tuple[int, int], second: tuple[int, int], label: int) -> None:
        """Adds a pair."""
        self.first.append(first)
        self.second.append(second)
        self.labels.append(label)

    def drop(self, reason: str, tokens: int) -> None:
        """Counts tokens that no example has."""
        self.dropped[reason] = self.dropped.get(reason, 0) + tokens


def make_pieces(
    documents: Sequence[Sequence[int]],
    room: int,
    pairs: str,
    *,
    short_share: float,
    crosses: bool,
    draw: random.Random,
) -> Pieces:
    """Divides documents into examples.

    Args:
        documents: for each document, the bounds of its units among the shard's tokens: rising,
            with the begin of the first unit and the end of the last one. Documents follow each
            other without gaps.
        room: int. The most tokens of an example, without special tokens.
        pairs: "none", "next_sentence" or "sentence_order".
        short_share: float. The share of examples whose limit is drawn from 2 to `room`.
        crosses: bool. Whether examples without pairs may cross the borders of documents.
        draw: random.Random.

    Returns:
        Pieces.

    Source: arXiv 1810.04805, appendix A.2; arXiv 1909.11942, section 3.1; arXiv 1907.11692, section
    4.2, for examples of full sentences.
    """
    if pairs != "none":
        return _Pairs(documents, room, pairs, short_share, draw).make()
    pieces = Pieces()
    if crosses:
        joined = list(itertools.chain.from_iterable(bounds[:-1] for bounds in documents))
        documents = [[*joined, documents[-1][-1]]] if documents else []
    for bounds in documents:
        for piece in _filled(bounds, room, short_share, draw):
            pieces.first.append(piece)
            pieces.second.append((piece[1], piece[1]))
    return pieces


def _filled(
    bounds: Sequence[int], room: int, short_share: float, draw: random.Random
) -> Iterator[tuple[int, int]]:
    """Fills examples with whole units; a unit that is longer than an example is divided."""
    begin, last = bounds[0], bounds[-1]
    while begin < last:
        limit = _integer(draw, min(2, room), room) if draw.random() < short_share else room
        if begin + limit >= last:
            end = last
        else:
            end = bounds[bisect.bisect_right(bounds, begin + limit) - 1]
            if end <= begin:
                end = begin + limit
        yield begin, end
        begin = end


def ordered_units(bounds: Sequence[int], most: int) -> list[int]:
    """Divides units of more than `most` tokens; returns the bounds of all parts."""
    result = [bounds[0]]
    for begin, end in itertools.pairwise(bounds):
        if end - begin > most:
            count = -(-(end - begin) // most)
            result += [begin + (end - begin) * part // count for part in range(1, count)]
        if end > begin:
            result.append(end)
    return result


def _integer(draw: random.Random, least: int, most: int) -> int:
    """Draws an integer, in a third of the time of `randint`."""
    return least + int(draw.random() * (most - least + 1))


class _Pairs:
    """Pairs of segments of documents."""

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        room: int,
        pairs: str,
        short_share: float,
        draw: random.Random,
    ) -> None:
        # Two units always fit into an example.
        self.documents = [ordered_units(bounds, max(1, room // 2)) for bounds in documents]
        self.room = room
        self.next_sentence = pairs == "next_sentence"
        self.short_share = short_share
        self.draw = draw
        self.pieces = Pieces()
        self.debt = 0  # random pairs that were forced, not drawn

    def make(self) -> Pieces:
        """Divides all documents."""
        for number, bounds in enumerate(self.documents):
            unit = 0
            while unit < len(bounds) - 1:
                limit = self.room
                if self.draw.random() < self.short_share:
                    limit = _integer(self.draw, min(2, limit), limit)
                end = bisect.bisect_right(bounds, bounds[unit] + limit) - 1
                end = max(end, min(unit + 2, len(bounds) - 1))
                step = self._next if self.next_sentence else self._ordered
                unit = step(number, bounds, unit, end, max(limit, bounds[end] - bounds[unit]))
        return self.pieces

    def _next(self, number: int, bounds: list[int], unit: int, end: int, limit: int) -> int:
        """Adds a pair whose second segment is the next one, or a random one."""
        single = end - unit == 1
        is_random = self.draw.random() < 0.5
        if single and not is_random:
            self.debt += 1
            is_random = True
        elif is_random and not single and self.debt:
            self.debt -= 1
            is_random = False
        middle = end if single else unit + _integer(self.draw, 1, end - unit - 1)
        first = (bounds[unit], bounds[middle])
        if is_random:
            second = self._random_segment(number, limit - (first[1] - first[0]))
            if second is not None:
                self.pieces.add(first, second, 1)
                self.pieces.repeated += second[1] - second[0]
                return middle  # the units after the first segment are used again
            if single:
                self._halves(first, label=0)
                return end
        self.pieces.add(first, (bounds[middle], bounds[end]), 0)
        return end

    def _random_segment(self, number: int, room: int) -> tuple[int, int] | None:
        """Chooses consecutive units of another document; cut to the room, as they are repeated."""
        room = max(1, room)
        for _ in range(_RANDOM_DOCUMENTS):
            other = _integer(self.draw, 0, len(self.documents) - 1)
            bounds = self.documents[other]
            if other != number and len(bounds) > 1:
                start = _integer(self.draw, 0, len(bounds) - 2)
                end = bisect.bisect_right(bounds, bounds[start] + room) - 1
                return bounds[start], bounds[end] if end > start else bounds[start] + room
        return None

    def _ordered(self, number: int, bounds: list[int], unit: int, end: int, limit: int) -> int:
        """Adds two consecutive segments, in their order or swapped."""
        if end - unit == 1:
            self._halves((bounds[unit], bounds[end]), label=None)
            return end
        middle = unit + _integer(self.draw, 1, end - unit - 1)
        self._add_ordered((bounds[unit], bounds[middle]), (bounds[middle], bounds[end]))
        return end

    def _add_ordered(self, first: tuple[int, int], second: tuple[int, int]) -> None:
        if self.draw.random() < 0.5:
            self.pieces.add(second, first, 1)
        else:
            self.pieces.add(first, second, 0)

    def _halves(self, unit: tuple[int, int], label: int | None) -> None:
        """Divides the only unit that is left into two segments."""
        begin, end = unit
        if end - begin < 2:
            self.pieces.drop("single token without a second segment", end - begin)
            return
        middle = (begin + end) // 2
        if label is None:
            self._add_ordered((begin, middle), (middle, end))
        else:
            self.pieces.add((begin, middle), (middle, end), label)


def segment_arrays(ranges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the begins and the lengths of ranges, int64 (E,)."""
    array = np.array(ranges, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1] - array[:, 0]

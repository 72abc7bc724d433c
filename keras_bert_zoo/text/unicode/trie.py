"""A trie over characters, as a double array that core ops can walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_bert_zoo.text.unicode.code_points import CODE_POINTS


@dataclass(frozen=True)
class Trie:
    """A double array over the characters of pieces.

    Attributes:
        ranks: int32 (0x110000,). The number of each character, 0 for characters in no piece.
        units: int32 (units, 3). For each node: its parent, the base of its children (-1 without
            children), and its piece. The child for a character is at the base plus the number of
            the character, if its parent is this node.
        root: int. The base of the root's children; their parent is -1.
    """

    ranks: np.ndarray
    units: np.ndarray
    root: int


def build_trie(pieces: Sequence[str]) -> Trie:
    """Builds the trie of pieces. The value of a piece is its index in the sequence.

    Empty pieces are left out. The last of equal pieces counts.
    """
    ids = {piece: i for i, piece in enumerate(pieces) if piece}
    ordered = sorted(ids)
    lengths = np.array([len(piece) for piece in ordered], np.int64)
    text = np.frombuffer("".join(ordered).encode("utf-32-le", "surrogatepass"), np.uint32)
    points, inverse, counts = np.unique(text, return_inverse=True, return_counts=True)
    # Frequent characters first: their children are close to the beginning.
    rank_of = np.empty(len(points), np.int64)
    rank_of[np.argsort(-counts, kind="stable")] = np.arange(1, len(points) + 1)
    ranks = np.zeros(CODE_POINTS, np.int32)
    ranks[points] = rank_of
    characters = rank_of[inverse]
    starts = np.cumsum(lengths) - lengths

    # Level by level: pieces with equal prefixes are adjacent.
    parents, labels, values = [], [], []
    rows = np.arange(len(ordered))
    node = np.full(len(ordered), -1, np.int64)  # of each piece, at the current depth
    piece_ids = np.array([ids[piece] for piece in ordered], np.int64)
    total = 0
    depth = 0
    while True:
        rows = rows[lengths[rows] > depth]
        if not len(rows):
            break
        label = characters[starts[rows] + depth]
        parent = node[rows]
        new = np.ones(len(rows), bool)
        new[1:] = (parent[1:] != parent[:-1]) | (label[1:] != label[:-1])
        number = total + np.cumsum(new) - 1
        node[rows] = number
        parents.append(parent[new])
        labels.append(label[new])
        value = np.full(int(new.sum()), -1, np.int64)
        ended = lengths[rows] == depth + 1
        value[number[ended] - total] = piece_ids[rows[ended]]
        values.append(value)
        total += len(value)
        depth += 1
    none = len(pieces) + 1
    value = np.concatenate(values)
    value[value < 0] = none
    return _place(ranks, np.concatenate(parents), np.concatenate(labels), value, none)


def _place(
    ranks: np.ndarray, parents: np.ndarray, labels: np.ndarray, values: np.ndarray, none: int
) -> Trie:
    """Finds positions for the children of each node, beginning with large families."""
    count, characters = len(parents), int(ranks.max())
    order = np.argsort(parents, kind="stable")
    family, first, sizes = np.unique(parents[order], return_index=True, return_counts=True)
    size = count + count // 4 + characters + 64
    used = np.zeros(size, bool)
    bases = np.full(len(family), -1, np.int64)
    generator = np.random.default_rng(0)  # a fixed seed, for the same trie each time
    for members in sorted(set(sizes.tolist()), reverse=True):
        waiting = np.flatnonzero(sizes == members)
        children = labels[order[first[waiting][:, np.newaxis] + np.arange(members)]]
        if members == 1:
            # Any free position works if the base is not negative.
            free = np.flatnonzero(~used)
            free = free[-len(waiting) :] if len(free) > len(waiting) else free
            ranked = np.argsort(children[:, 0], kind="stable")
            bases[waiting[ranked]] = free[: len(waiting)] - children[ranked, 0]
            break
        tries = 0
        while len(waiting):
            if members > 32:
                # One by one, because large families are few.
                base = _fit(used, children[0])
                bases[waiting[0]] = base
                used[base + children[0]] = True
                waiting, children = waiting[1:], children[1:]
                continue
            tries += 1
            room = len(used) - characters - 1
            if tries > 200:
                used = np.concatenate([used, np.zeros(len(used) // 2, bool)])
                tries = 0
            drawn = generator.integers(0, room, len(waiting))
            places = drawn[:, np.newaxis] + children
            fits = ~used[places].any(axis=1)
            # If several families fit the same position, the first one gets it.
            candidates = np.flatnonzero(fits)
            flat = places[candidates].reshape(-1)
            _, index = np.unique(flat, return_index=True)
            alone = np.zeros(len(flat), bool)
            alone[index] = True
            winners = candidates[alone.reshape(-1, members).all(axis=1)]
            used[places[winners].reshape(-1)] = True
            bases[waiting[winners]] = drawn[winners]
            rest = np.ones(len(waiting), bool)
            rest[winners] = False
            waiting, children = waiting[rest], children[rest]
    if (bases < 0).any():
        raise ValueError("Expected a free position for every node of the trie, received none.")
    units = np.full((len(used) + characters + 1, 3), -2, np.int64)
    units[:, 1] = -1
    units[:, 2] = none
    base_of = dict(zip(family.tolist(), bases.tolist(), strict=True))
    base_of_node = np.full(count, -1, np.int64)
    inner = family >= 0
    base_of_node[family[inner]] = bases[inner]
    family_base = np.repeat(bases, sizes)
    places = np.empty(count, np.int64)
    places[order] = family_base + labels[order]
    units[places, 0] = np.where(parents < 0, -1, places[np.maximum(parents, 0)])
    units[places, 1] = base_of_node
    units[places, 2] = values
    return Trie(ranks, units.astype(np.int32), base_of[-1])


def _fit(used: np.ndarray, children: np.ndarray) -> int:
    """Returns the first base at which the positions of all children are free."""
    begin = 0
    while True:
        bases = np.arange(begin, min(begin + 1024, len(used) - int(children.max())))
        if not len(bases):
            raise ValueError("Expected a free position for every node of the trie, received none.")
        fits = ~used[bases[:, np.newaxis] + children[:64]].any(axis=1)
        for base in bases[fits].tolist():
            if not used[base + children].any():
                return int(base)
        begin += 1024

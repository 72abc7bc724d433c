"""SentencePiece's compiled character map with the results of Hugging Face, in core ops.

SentencePiece uses the longest match at each position. Hugging Face first looks up whole grapheme
clusters of less than six bytes, then single characters. In a cluster, it uses the shortest match
for the whole cluster. So a cluster of several characters is replaced by the text of its first
character or, if there is none, of its first two. The rest of the cluster is lost.
A deleted character belongs to the character before it. At the beginning of a text there is none,
and all offsets of the text move. This module has the same results, because the pieces of a model
were trained with them and its users know these offsets.

Source: tokenizers, `Precompiled`; the crate spm_precompiled; Unicode Standard Annex 29.
"""

from __future__ import annotations

import struct

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.unicode.characters import (
    CharacterMap,
    Characters,
    shifted,
    tables,
    transform,
    unless_absent,
)
from keras_bert_zoo.text.unicode.code_points import CODE_POINTS, CodePointTable, utf8_lengths

_CLUSTER_BYTES = 5
_MAXIMUM_KEYS = 1 << 21
_CR, _LF, _ZWJ = 0x0D, 0x0A, 0x200D


def read_charsmap(blob: bytes) -> dict[str, str]:
    """Reads the keys of at most five bytes in a compiled character map, with their texts.

    Longer keys are never looked up.

    Args:
        blob: the size of the trie in bytes (4 bytes, little endian), the trie as a double array in
            Darts-clone's layout, and the texts, each with a zero byte at its end.

    Raises:
        ConfigError: the map is damaged.
    """
    if len(blob) < 8:
        raise ConfigError(f"Expected a precompiled charsmap, received {len(blob)} bytes.")
    (size,) = struct.unpack_from("<I", blob)
    if size % 4 or size == 0 or size > len(blob) - 4:
        raise ConfigError(
            f"Expected a precompiled charsmap whose trie fits its {len(blob)} bytes, received a "
            f"trie of {size} bytes."
        )
    units = np.frombuffer(blob, np.uint32, size // 4, 4).astype(np.int64)
    pool = blob[4 + size :]
    # The node for byte b is at the base of its family XOR b. Sort the nodes by family.
    nodes = np.flatnonzero((units & 0x80000000 == 0) & (units & 0xFF != 0))
    families = nodes ^ units[nodes] & 0xFF
    order = np.argsort(families, kind="stable")
    nodes, families = nodes[order], families[order]
    offsets = units >> 10 << ((units & 1 << 9) >> 6)
    keys: dict[str, str] = {}
    level = [(b"", int(offsets[0]))]  # prefixes of keys, and the family of their children
    for _ in range(_CLUSTER_BYTES):
        bases = np.array([base for _, base in level])
        begins, ends = (np.searchsorted(families, bases, side) for side in ("left", "right"))
        following = []
        # In a damaged trie, many nodes may have the same children.
        if len(level) + int((ends - begins).sum()) > _MAXIMUM_KEYS:
            raise ConfigError("Expected a precompiled charsmap, received an endless trie.")
        for (prefix, base), begin, end in zip(level, begins.tolist(), ends.tolist(), strict=True):
            for place in nodes[begin:end].tolist():
                key, children = prefix + bytes((place ^ base,)), place ^ int(offsets[place])
                following.append((key, children))
                if units[place] >> 8 & 1:
                    keys[_text(key)] = _value(units, children, pool)
        level = following
        if not level:
            break
    return keys


def _value(units: np.ndarray, place: int, pool: bytes) -> str:
    """Returns the text of a key."""
    begin = int(units[place]) & 0x7FFFFFFF if place < len(units) else len(pool)
    end = pool.find(b"\0", begin)
    if begin >= len(pool):
        raise ConfigError("Expected a precompiled charsmap, received a key without its text.")
    return _text(pool[begin : end if end >= 0 else len(pool)])


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"Expected a precompiled charsmap in UTF-8, received {encoded[:20]!r}."
        ) from error


class PrecompiledCharsmap:
    """Maps characters in a graph.

    Args:
        blob: see `read_charsmap`.

    Attributes:
        texts: dict of code point to text.
        leaves_spaces: bool. Whether the map does not change spaces, alone or in clusters.

    Raises:
        ConfigError: the map is damaged, or has a key of three characters in at most five bytes
            without a shorter key at its beginning.
    """

    def __init__(self, blob: bytes) -> None:
        keys = read_charsmap(blob)
        self.texts = {ord(key): text for key, text in keys.items() if len(key) == 1}
        pairs = {}
        for key, text in keys.items():
            if len(key) < 2 or len(key.encode()) > _CLUSTER_BYTES or key[0] in keys:
                continue  # never looked up, or a shorter key matches first
            if len(key) == 2:
                pairs[key] = text
            elif key[:2] not in keys:
                raise ConfigError(
                    f"Expected keys of one or two characters in a precompiled charsmap, or longer "
                    f"ones that begin with such a key, received {key!a}. It is not supported."
                )
        self.leaves_spaces = " " not in keys and not any(key[0] == " " for key in pairs)
        self._map = CharacterMap(self.texts, pairs.values())
        encoded = sorted((ord(key[0]) << 21 | ord(key[1]), i) for i, key in enumerate(pairs))
        encoded = encoded or [(-1, 0)]
        with tf.init_scope():
            self._pairs = tf.constant(np.array([pair for pair, _ in encoded], np.int64))
            self._pair_entries = tf.constant(
                np.array([self._map.first_of_more + i for _, i in encoded], np.int32)
            )
        self._clusters = Clusters()

    def __call__(self, characters: Characters) -> Characters:
        """Maps the characters."""
        entries = self._map.entries(characters.points)
        may_join = self._clusters.may_join(characters.points)
        return unless_absent(
            tf.logical_or(entries > 0, may_join),
            lambda chars: self._apply(chars, entries, may_join),
            characters,
        )

    def _apply(self, characters: Characters, entries: tf.Tensor, may_join: tf.Tensor) -> Characters:
        size = ragged_ops.size64(entries)
        # Counts: the number of characters to look up together; 0 for a character that belongs to
        # the cluster of the previous character.
        entries, counts = tf.cond(
            tf.reduce_any(may_join),
            lambda: self._look_up_clusters(characters, entries),
            lambda: (entries, tf.ones(size[tf.newaxis], tf.int64)),
        )
        heads = ragged_ops.indices(counts > 0)
        entries, counts = tf.gather(entries, heads), tf.gather(counts, heads)
        rows = tf.gather(characters.rows, heads)
        points, origin, within, splits = self._map.expand(
            tf.gather(characters.points, heads), entries
        )
        lengths = splits[1:] - splits[:-1]  # of the new texts
        surplus = lengths - counts
        # In a text that becomes longer, the last characters are new.
        added = tf.gather(surplus, origin) > 0
        added = tf.logical_and(added, within >= tf.gather(counts, origin))
        change = tf.cast(added, tf.int64)
        # In a text that becomes shorter, the last character includes the rest. This may be a
        # character of a previous cluster. At the beginning of a row there is none.
        missing = ragged_ops.indices(surplus < 0)
        last = tf.gather(splits, missing + 1) - 1
        emitted_rows = tf.gather(rows, origin)
        row_of_last = tf.gather(tf.pad(emitted_rows, [[1, 0]], constant_values=-1), last + 1)
        own = ragged_ops.indices(tf.equal(row_of_last, tf.gather(rows, missing)))
        change = tf.tensor_scatter_nd_add(
            change,
            tf.gather(last, own)[:, tf.newaxis],
            tf.gather(surplus, tf.gather(missing, own)),
        )
        return transform(characters, points, emitted_rows, change)

    def _look_up_clusters(
        self, characters: Characters, entries: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns entries and counts, with clusters of several characters looked up as wholes."""
        begins = tf.logical_not(self._clusters.joined(characters))
        at = ragged_ops.indices(begins)  # (clusters,)
        cluster = tf.cumsum(tf.cast(begins, tf.int64)) - 1
        sizes = tf.math.segment_sum(utf8_lengths(characters.points), cluster)
        counts = tf.math.segment_sum(tf.ones_like(cluster), cluster)
        first = tf.gather(characters.points, at)
        second = tf.gather(tf.pad(characters.points, [[0, 1]]), at + 1)
        pair = tf.cast(first, tf.int64) * (1 << 21) + tf.cast(second, tf.int64)
        place = tf.minimum(tf.searchsorted(self._pairs, pair), self._pairs.shape[0] - 1)
        of_pair = tf.where(
            tf.equal(tf.gather(self._pairs, place), pair), tf.gather(self._pair_entries, place), 0
        )
        of_first = tf.gather(entries, at)
        match = tf.where(of_first > 0, of_first, of_pair)
        short = tf.logical_and(counts > 1, sizes <= _CLUSTER_BYTES)
        whole = tf.logical_and(short, match > 0)  # (clusters,)
        of_whole = tf.gather(whole, cluster)  # (N,)
        entries = tf.where(of_whole, tf.gather(match, cluster), entries)
        counts = tf.where(
            of_whole,
            tf.where(begins, tf.gather(counts, cluster), tf.zeros_like(cluster)),
            tf.ones_like(cluster),
        )
        return entries, counts


class Clusters:
    """Finds grapheme clusters.

    Pairs of regional indicators are not recognized. They have eight bytes, so a cluster with a pair
    is never looked up as a whole.

    Source: Unicode Standard Annex 29, extended grapheme clusters; the classes of the characters
    are those of the crate unicode-segmentation.
    """

    _BITS = (
        "joins_previous", "prepend", "control", "pictograph", "extend", "consonant", "linker",
        "conjunct_extend",
    )  # fmt: skip
    _HANGUL = ("", "hangul_l", "hangul_v", "hangul_t", "hangul_lv", "hangul_lvt")

    def __init__(self) -> None:
        values = np.zeros(CODE_POINTS, np.int32)
        classes = tables().graphemes
        for bit, name in enumerate(self._BITS):
            values[list(classes[name])] |= 1 << bit
        for number, name in enumerate(self._HANGUL[1:], 1):
            values[list(classes[name])] |= number << len(self._BITS)
        self._classes = CodePointTable(values)
        joining = {_LF} | classes["joins_previous"] | classes["prepend"]
        self._joining = CodePointTable.of_set(joining)

    def may_join(self, points: tf.Tensor) -> tf.Tensor:
        """Marks characters that may be in a cluster of several characters in five bytes: (N,).

        Hangul syllables and emoji sequences of several characters have six bytes or more.
        """
        return self._joining.contains(points)

    def joined(self, characters: Characters) -> tf.Tensor:
        """Marks characters that belong to the cluster of the previous character: bool (N,)."""
        points = characters.points
        classes = self._classes(points)

        def has(name: str, values: tf.Tensor = classes) -> tf.Tensor:
            bit = 1 << self._BITS.index(name)
            return tf.not_equal(tf.bitwise.bitwise_and(values, bit), 0)

        before = shifted(classes, 0)
        control, control_before = has("control"), has("control", before)
        joined = tf.logical_and(tf.equal(points, _LF), tf.equal(shifted(points, 0), _CR))
        open_before = tf.logical_not(control_before)
        joined = tf.logical_or(joined, tf.logical_and(has("joins_previous"), open_before))
        joined = tf.logical_or(
            joined, tf.logical_and(has("prepend", before), tf.logical_not(control))
        )
        kind = tf.bitwise.right_shift(classes, len(self._BITS))
        kind_before = shifted(kind, 0)

        def one_of(values: tf.Tensor, *names: str) -> tf.Tensor:
            mask = tf.equal(values, self._HANGUL.index(names[0]))
            for name in names[1:]:
                mask = tf.logical_or(mask, tf.equal(values, self._HANGUL.index(name)))
            return mask

        for left, right in (
            (("hangul_l",), ("hangul_l", "hangul_v", "hangul_lv", "hangul_lvt")),
            (("hangul_lv", "hangul_v"), ("hangul_v", "hangul_t")),
            (("hangul_lvt", "hangul_t"), ("hangul_t",)),
        ):
            both = tf.logical_and(one_of(kind_before, *left), one_of(kind, *right))
            joined = tf.logical_or(joined, both)
        first = characters.first()
        # A pictograph with marks and a joiner is joined to another pictograph.
        head, _ = self._run(first, tf.logical_not(has("extend")), classes)
        joiner = tf.equal(points, _ZWJ)
        pictures = tf.logical_and(joiner, shifted(has("pictograph", head), False))
        pictures = tf.logical_and(pictures, tf.logical_not(first))
        joined = tf.logical_or(joined, tf.logical_and(has("pictograph"), shifted(pictures, False)))
        # A consonant with marks and a linker is joined to another consonant.
        linker = has("linker")
        outside = tf.logical_not(tf.logical_or(linker, has("conjunct_extend")))
        head, linkers = self._run(first, outside, classes, linker)
        linked = tf.logical_and(has("consonant", head), linkers)
        joined = tf.logical_or(joined, tf.logical_and(has("consonant"), shifted(linked, False)))
        return tf.logical_and(joined, tf.logical_not(first))

    @staticmethod
    def _run(
        first: tf.Tensor, heads: tf.Tensor, classes: tf.Tensor, marked: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the classes of the head of each run, and whether it has a marked character.

        A run is a head and the characters up to the next head.
        """
        heads = tf.logical_or(heads, first)
        run = tf.cumsum(tf.cast(heads, tf.int64)) - 1
        head = tf.gather(tf.gather(classes, ragged_ops.indices(heads)), run)
        if marked is None:
            return head, heads
        count = tf.math.segment_sum(tf.cast(marked, tf.int64), run)
        return head, tf.gather(count, run) > 0

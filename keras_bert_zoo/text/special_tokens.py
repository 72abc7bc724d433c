"""Added tokens, which are never split: "[MASK]" in a text is one token.

Hugging Face first matches them in the raw text: leftmost first, then longest, case-sensitive, with
any neighbors. It tokenizes the text between them as separate texts. Tokens with `normalized=true`
are then matched in the normalized text between. This module matches the bytes of the texts.

Legend: B texts, S matched added tokens in all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import ragged_ops

_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


@dataclass(frozen=True)
class AddedToken:
    """A token that is never split, and how it is matched in a text.

    Attributes:
        content: str, not empty.
        id: int or None. None: the id in the vocabulary, or the next free one.
        lstrip, rstrip: bool. Include the whitespace on the left or right in the match.
        single_word: bool. Match only whole words; not supported.
        normalized: bool. Match the normalized content in the normalized text, instead of in the
            raw text.
        special: bool. `detokenize` drops the token on request.

    Raises:
        ConfigError: the content, the id or a flag is invalid or not supported.

    Example:
        >>> AddedToken("<mask>", lstrip=True).special
        True

    Source: tokenizers, `AddedToken`.
    """

    content: str
    id: int | None = None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.content, str) or not self.content:
            raise ConfigError(
                f"Expected added tokens as strings that are not empty, received "
                f"{self.content!r:.80}."
            )
        try:
            self.content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"Expected added tokens of Unicode characters, received {self.content!r:.80}."
            ) from error
        if self.id is not None and (
            not isinstance(self.id, int) or isinstance(self.id, bool) or self.id < 0
        ):
            raise ConfigError(
                f"Expected the id of the added token {self.content!r:.80} to be an int of at "
                f"least 0, received {self.id!r:.80}."
            )
        for flag in _FLAGS:
            if not isinstance(getattr(self, flag), bool):
                raise ConfigError(
                    f"Expected {flag} of the added token {self.content!r:.80} to be true or "
                    f"false, received {getattr(self, flag)!r:.80}."
                )
        if self.single_word:
            raise ConfigError(
                f"Expected single_word=false of the added token {self.content!r:.80}, received "
                "true. Matching only whole words is not supported."
            )

    @classmethod
    def from_json(cls, value: Any, *, token_id: int | None = None) -> AddedToken:
        """Reads a token of Hugging Face's files: a string, or an object with `content`.

        Args:
            value: str or mapping.
            token_id: int or None. The id, if it is not in `value`.

        Raises:
            ConfigError: the value has another type or an unsupported flag.
        """
        if isinstance(value, str):
            return cls(value, id=token_id)
        if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
            raise ConfigError(f"Expected a token as a string, received {value!r:.80}.")
        unknown = sorted(map(str, set(value) - {"content", "id", "__type", *_FLAGS}))
        if unknown:
            raise ConfigError(
                f"Expected flags of {', '.join(_FLAGS)} for the added token "
                f"{value['content']!r:.80}, received {unknown[:3]}."
            )
        flags = {flag: value[flag] for flag in _FLAGS if value.get(flag) is not None}
        return cls(value["content"], id=value.get("id") if token_id is None else token_id, **flags)

    def to_json(self) -> dict[str, Any]:
        """Returns the entry of `added_tokens_decoder` in tokenizer_config.json."""
        return {"content": self.content, **{flag: getattr(self, flag) for flag in _FLAGS}}


@dataclass(frozen=True)
class Matches:
    """The matched added tokens, in the order of the texts.

    Attributes:
        ids: int32 (S,).
        rows: int64 (S,). The index of the text.
        starts, ends: int64 (S,). Bytes of the text, with the whitespace of lstrip and rstrip.
        inner_starts, inner_ends: int64 (S,). The same without that whitespace.
    """

    ids: tf.Tensor
    rows: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    inner_starts: tf.Tensor
    inner_ends: tf.Tensor


@dataclass
class _Node:
    """A node in the trie of the tokens' bytes."""

    number: int
    token: int = -1
    following: dict[int, _Node] = field(default_factory=dict)


class SpecialTokenFinder:
    """Matches added tokens in texts: leftmost first, then longest.

    Args:
        tokens: dict of token to id, or `AddedToken`s with ids. The first of two tokens with the
            same content counts.

    Raises:
        ConfigError: a token has no id, or one begins with whitespace while another has rstrip.

    Example:
        >>> finder = SpecialTokenFinder({"[MASK]": 4})
        >>> raw = tf.constant(list(b"a [MASK]"), tf.uint8)
        >>> finder.find(raw, tf.constant([0, 8], tf.int64)).starts.numpy().tolist()
        [2]
    """

    def __init__(self, tokens: Mapping[str, int] | Iterable[AddedToken]) -> None:
        if isinstance(tokens, Mapping):
            tokens = [AddedToken(token, id=i) for token, i in tokens.items()]
        by_content = {token.content: token for token in reversed(list(tokens))}
        self._tokens = list(by_content.values())
        ids = []
        for token in self._tokens:
            if token.id is None:
                raise ConfigError(
                    f"Expected an id for the added token {token.content!r}, received None."
                )
            ids.append(token.id)
        encoded = [token.content.encode("utf-8") for token in self._tokens]
        self._ids = np.array(ids, np.int32)
        self._left = np.array([token.lstrip for token in self._tokens])
        self._right = np.array([token.rstrip for token in self._tokens])
        spaced = [t.content for t in self._tokens if t.content[0] in WHITESPACE]
        if spaced and self._right.any():
            raise ConfigError(
                f"Expected rstrip=false in all added tokens with {spaced[0]!r}, which begins with "
                "whitespace, received true. The combination is not supported."
            )
        self._may_overlap = _may_overlap(encoded)
        self._longest = max(map(len, encoded))
        self._first_bytes = sorted({token[0] for token in encoded})
        self._build_tree(encoded)

    def _build_tree(self, encoded: list[bytes]) -> None:
        """Builds the trie as a table: state and byte class to state; 0 is a dead end."""
        kinds = np.zeros(256, np.int32)  # 0: in no token
        for kind, byte in enumerate(sorted(set().union(*encoded)), 1):
            kinds[byte] = kind
        width = int(kinds.max()) + 1
        nodes = [_Node(0), _Node(1)]
        for index, token in enumerate(encoded):
            node = nodes[1]
            for byte in token:
                if byte not in node.following:
                    node.following[byte] = _Node(len(nodes))
                    nodes.append(node.following[byte])
                node = node.following[byte]
            node.token = index
        table = np.zeros((len(nodes), width), np.int32)
        for node in nodes:
            for byte, following in node.following.items():
                table[node.number, kinds[byte]] = following.number
        self._kinds, self._width, self._table = kinds, width, table.reshape(-1)
        self._accepts = np.array([node.token for node in nodes], np.int32)

    def find(self, raw: tf.Tensor, splits: tf.Tensor) -> Matches:
        """Finds the tokens.

        Args:
            raw: uint8 (bytes,). The bytes of all texts.
            splits: int64 (B + 1,). The bytes of each text.

        Returns:
            Matches.
        """
        # Padding, because the ops below read after the end of the last text.
        raw = tf.pad(tf.cast(raw, tf.int32), [[0, max(self._longest, 3)]])
        candidate = tf.equal(raw, self._first_bytes[0])
        for byte in self._first_bytes[1:]:
            candidate = tf.logical_or(candidate, tf.equal(raw, byte))
        at = ragged_ops.indices(candidate)
        rows = tf.gather(ragged_ops.row_ids(splits, ragged_ops.size64(raw)), at)
        token, length = self._match(raw, at, tf.gather(splits, rows + 1))
        matched = ragged_ops.indices(token >= 0)
        at, rows, token, length = (tf.gather(x, matched) for x in (at, rows, token, length))
        if self._may_overlap:
            selected = _not_overlapping(at, at + length, ragged_ops.size64(raw))
            at, rows, token, length = (tf.gather(x, selected) for x in (at, rows, token, length))
        begins, stops = at, at + length
        starts, ends = begins, stops
        if self._left.any() or self._right.any():
            starts, ends = self._strip(raw, splits, rows, token, begins, stops)
        first = tf.gather(splits, rows)
        return Matches(
            tf.gather(tf.constant(self._ids), token),
            rows,
            *(place - first for place in (starts, ends, begins, stops)),
        )

    def _match(
        self, raw: tf.Tensor, at: tf.Tensor, row_end: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the longest token at each position: int32 index or -1, int64 length."""
        state = tf.ones_like(at, tf.int32)
        token = tf.fill(tf.shape(at), -1)
        length = tf.zeros_like(at)
        for depth in range(self._longest):
            kind = tf.gather(tf.constant(self._kinds), tf.gather(raw, at + depth))
            state = tf.gather(tf.constant(self._table), state * self._width + kind)
            state = tf.where(at + depth < row_end, state, 0)
            accepted = tf.gather(tf.constant(self._accepts), state)
            token = tf.where(accepted >= 0, accepted, token)
            length = tf.where(accepted >= 0, tf.constant(depth + 1, tf.int64), length)
        return token, length

    def _strip(
        self,
        raw: tf.Tensor,
        splits: tf.Tensor,
        rows: tf.Tensor,
        token: tf.Tensor,
        begins: tf.Tensor,
        stops: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Extends matches by the whitespace of lstrip and rstrip: int64 (S,) starts and ends."""
        left = tf.gather(tf.constant(self._left), token)
        right = tf.gather(tf.constant(self._right), token)

        def widen() -> tuple[tf.Tensor, tf.Tensor]:
            solid = tf.logical_not(_whitespace(raw))
            places = ragged_ops.indices(solid)
            before = ragged_ops.counts_before(solid)
            following = tf.gather(places, tf.gather(before, stops))
            following = tf.minimum(following, tf.gather(splits, rows + 1))
            ends = tf.where(right, following, stops)
            # -1 if only whitespace precedes.
            preceding = tf.gather(
                tf.pad(places, [[1, 0]], constant_values=-1), tf.gather(before, begins)
            )
            # The previous token may include the whitespace between.
            previous = tf.concat([tf.zeros_like(ends[:1]), ends[:-1]], axis=0)
            earliest = tf.maximum(previous, tf.gather(splits, rows))
            starts = tf.where(left, tf.maximum(preceding + 1, earliest), begins)
            return starts, ends

        spans: tuple[tf.Tensor, tf.Tensor] = tf.cond(
            tf.reduce_any(tf.logical_or(left, right)), widen, lambda: (begins, stops)
        )
        return spans


def _may_overlap(tokens: list[bytes]) -> bool:
    """Returns whether two matches of the tokens can overlap."""
    whole = set(tokens)
    prefixes = {token[:end] for token in tokens for end in range(1, len(token) + 1)}
    return any(
        token[at:] in prefixes or any(token[at:end] in whole for end in range(at + 1, len(token)))
        for token in whole
        for at in range(1, len(token))
    )


def _not_overlapping(starts: tf.Tensor, ends: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Selects matches that do not overlap, leftmost first: int64 indices into `starts`.

    The successor of a match is the first match that starts at or after its end. Doubling the length
    of the jumps finds all successors of the first match in log2(matches) steps.

    Args:
        starts: int64 (M,), ascending.
        ends: int64 (M,).
        size: int64 (). More than every end.
    """
    count = ragged_ops.size64(starts)

    def select() -> tf.Tensor:
        marked = tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts), [size])
        jump = tf.gather(ragged_ops.counts_before(marked > 0), ends)
        # One additional element, the end of all jumps.
        jump = tf.concat([jump, count[tf.newaxis]], axis=0)
        reached = tf.concat([tf.ones([1], tf.int64), tf.zeros_like(starts)], axis=0)

        def double(jump: tf.Tensor, reached: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            more = tf.scatter_nd(jump[:, tf.newaxis], reached, [count + 1])
            return tf.gather(jump, jump), tf.minimum(reached + more, 1)

        _, reached = tf.while_loop(
            lambda jump, _: tf.reduce_any(jump < count),
            double,
            (jump, reached),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
        )
        return ragged_ops.indices(reached[:-1] > 0)

    return tf.cond(tf.reduce_any(ends[:-1] > starts[1:]), select, lambda: tf.range(count))


# Unicode's White_Space, the same set as Rust's char::is_whitespace and \s of its regex crate.
WHITESPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000").union(
    map(chr, range(0x2000, 0x200B))
)


def _whitespace(raw: tf.Tensor) -> tf.Tensor:
    """Marks the bytes of whitespace: int32 (bytes,) to bool (bytes,)."""
    second = tf.pad(raw[1:], [[0, 1]])
    third = tf.pad(second[1:], [[0, 1]])
    of_one = tf.logical_or(tf.equal(raw, 0x20), tf.logical_and(raw >= 0x09, raw <= 0x0D))
    pair = raw * 0x100 + second
    of_two = tf.logical_or(tf.equal(pair, 0xC285), tf.equal(pair, 0xC2A0))
    triple = pair * 0x100 + third
    of_three = tf.logical_and(triple >= 0xE28080, triple <= 0xE2808A)
    for code in (0xE19A80, 0xE280A8, 0xE280A9, 0xE280AF, 0xE2819F, 0xE38080):
        of_three = tf.logical_or(of_three, tf.equal(triple, code))
    wide = tf.logical_or(of_two, of_three)
    wide = tf.logical_or(wide, tf.pad(wide[:-1], [[1, 0]]))
    wide = tf.logical_or(wide, tf.pad(of_three[:-2], [[2, 0]]))
    return tf.logical_or(of_one, wide)


def starts_with_ascii_punctuation(token: str) -> bool:
    """Returns whether a token begins with ASCII punctuation, which BERT always splits off.

    Example:
        >>> starts_with_ascii_punctuation("[MASK]"), starts_with_ascii_punctuation("mask")
        (True, False)
    """
    code = ord(token[0])
    return code < 128 and bool(_ASCII_PUNCTUATION[code])


_ASCII_PUNCTUATION = np.zeros(128, bool)
for _first, _last in ((33, 47), (58, 64), (91, 96), (123, 126)):
    _ASCII_PUNCTUATION[_first : _last + 1] = True

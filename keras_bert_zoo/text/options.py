"""Tokenizer options: special tokens, the layout of segments, and the longest input.

Each tokenizer class extends `TokenizerOptions` by its own options. Files are read into options, and
options are written to files, so that readers and writers need no tokenizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.special_tokens import AddedToken

_ALLOWED = {
    "separators_between": (1, 2),
    "second_segment_id": (0, 1),
    "cls_segment_id": (0, 1, 2),
}


@dataclass(frozen=True)
class Packing:
    """The layout of segments: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    The defaults are BERT's. RoBERTa's pairs are <s> a </s></s> b </s>, all of segment 0.

    Attributes:
        separators_between: int. 1 or 2 separators between the segments of a pair.
        second_segment_id: int. 0 or 1, the segment id of `b` and of the separator after it.
        cls_segment_id: int. 0, 1 or 2, the segment id of the first token (2 in Funnel).
    """

    separators_between: int = 1
    second_segment_id: int = 1
    cls_segment_id: int = 0


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Options of every tokenizer.

    Attributes:
        unk_token, cls_token, sep_token, pad_token: str, in the vocabulary or in `added_tokens`.
        mask_token: str, or None for a vocabulary without one.
        additional_special_tokens: further special tokens. Tokens outside the vocabulary get the
            ids after its last.
        added_tokens: `AddedToken`s. They set how a token is matched in a text.
        max_length: int or None. The longest input of the model.
        separators_between, second_segment_id, cls_segment_id: int. See `Packing`.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> TokenizerOptions(max_length=512).packing
        Packing(separators_between=1, second_segment_id=1, cls_segment_id=0)
    """

    unk_token: str = "[UNK]"
    cls_token: str = "[CLS]"
    sep_token: str = "[SEP]"
    pad_token: str = "[PAD]"
    mask_token: str | None = "[MASK]"
    additional_special_tokens: Sequence[str] = ()
    added_tokens: Sequence[AddedToken] = ()
    max_length: int | None = None
    separators_between: int = 1
    second_segment_id: int = 1
    cls_segment_id: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if isinstance(value, bool) or value not in allowed:
                raise ConfigError(
                    f"Expected {name} of {', '.join(map(str, allowed))}, received {value!r}."
                )
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(
                f"Expected max_length of at least 1 or None, received {self.max_length}."
            )
        if not all(self.additional_special_tokens):
            raise ConfigError(
                "Expected additional_special_tokens that are not empty, received ''. Remove it."
            )

    @property
    def packing(self) -> Packing:
        """The layout of segments."""
        return Packing(self.separators_between, self.second_segment_id, self.cls_segment_id)

    @property
    def named_tokens(self) -> dict[str, str]:
        """The special tokens by the names of their options; without `mask_token` if it is None."""
        names = {
            "unk_token": self.unk_token,
            "cls_token": self.cls_token,
            "sep_token": self.sep_token,
            "pad_token": self.pad_token,
        }
        return names if self.mask_token is None else {**names, "mask_token": self.mask_token}

    @property
    def added_by_id(self) -> list[AddedToken]:
        """The added tokens in the order of their ids."""
        return sorted(self.added_tokens, key=lambda token: token.id or 0)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The contents of the added tokens that are special."""
        return tuple(token.content for token in self.added_tokens if token.special)


def token_ids(vocabulary: Sequence[str]) -> dict[str, int]:
    """Returns the ids of distinct tokens, which are their positions; else raises ConfigError."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    if len(ids) != len(vocabulary):
        repeated = [token for i, token in enumerate(vocabulary) if ids[token] != i]
        raise ConfigError(
            f"Expected a vocabulary of distinct tokens, received {len(repeated)} duplicates, such "
            f"as {repeated[:3]!r}. A token's position is its id, so rename the duplicates instead "
            "of removing them."
        )
    return ids


def check_special_tokens(options: TokenizerOptions, vocabulary: Mapping[str, int]) -> None:
    """Raises ConfigError if a special token has no id.

    Args:
        options: the special tokens.
        vocabulary: dict of token to id.
    """
    added = {token.content for token in options.added_tokens if token.id is not None}
    missing = {
        name: token
        for name, token in options.named_tokens.items()
        if token not in vocabulary and token not in added
    }
    if missing:
        tokens = ", ".join(f"{name} {token!r}" for name, token in missing.items())
        no_mask = " (mask_token=None if it has none)" if "mask_token" in missing else ""
        raise ConfigError(
            f"Expected a vocabulary with {tokens}, received {len(vocabulary)} tokens without. "
            f"Add the token or pass the one that the vocabulary has{no_mask}."
        )


def merged_added_tokens(options: TokenizerOptions) -> list[AddedToken]:
    """Returns all added tokens with their flags; special tokens come first.

    Raises:
        ConfigError: one token has two different sets of flags.
    """
    flags: dict[str, AddedToken] = {}
    for token in options.added_tokens:
        if flags.setdefault(token.content, token) != token:
            raise ConfigError(
                f"Expected the added token {token.content!r} once, received it with different "
                f"flags: {flags[token.content]} and {token}. Remove one."
            )
    names = dict.fromkeys([*options.named_tokens.values(), *options.additional_special_tokens])
    tokens = [
        dataclasses.replace(flags.get(name, AddedToken(name)), special=True) for name in names
    ]
    tokens += [token for token in flags.values() if token.content not in names]
    return sorted(tokens, key=lambda token: not token.special)


def renumbered(tokens: Iterable[AddedToken], pieces: Sequence[str]) -> list[AddedToken]:
    """Returns added tokens with the ids that they have after other pieces.

    Args:
        tokens: AddedTokens with their ids.
        pieces: the tokens of a vocabulary, in the order of their ids. Added tokens outside it
            follow in their order.

    Example:
        >>> [token.id for token in renumbered([AddedToken("<a>", id=9)], ["x", "y"])]
        [2]
    """
    tokens = list(tokens)
    places = {piece: i for i, piece in enumerate(pieces)}
    for token in sorted(tokens, key=lambda token: token.id or 0):
        places.setdefault(token.content, len(places))
    return [dataclasses.replace(token, id=places[token.content]) for token in tokens]

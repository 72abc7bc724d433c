"""Options of the SentencePiece tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.options import TokenizerOptions

Prefix = Literal["always", "first", "never"]

SPACE_SIGN = "\u2581"


@dataclass(frozen=True, kw_only=True)
class SentencePieceOptions(TokenizerOptions):
    """Options of `SentencePieceTokenizer`, besides those of `TokenizerOptions`.

    Attributes:
        normalizer: dict, the normalizer of a tokenizer.json; None for no normalizer.
        split_at_whitespace: bool. End words at whitespace, and drop it.
        split_at_punctuation: bool. Make each punctuation character a word.
        prefix: "always" puts the space sign before every word that does not begin with a space;
            "first" only before the first word of a text; "never".
        split_at_spaces: bool. Begin a word at each space, which the space sign replaces.
        byte_fallback: bool. Replace unknown characters by the pieces of their bytes.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> SentencePieceOptions(prefix="first").unk_token
        '<unk>'
    """

    unk_token: str = "<unk>"
    cls_token: str = "<s>"
    sep_token: str = "</s>"
    pad_token: str = "<pad>"
    mask_token: str | None = "<mask>"
    normalizer: Mapping[str, Any] | None = None
    split_at_whitespace: bool = True
    split_at_punctuation: bool = False
    prefix: Prefix = "always"
    split_at_spaces: bool = True
    byte_fallback: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prefix not in get_args(Prefix):
            raise ConfigError(
                f"Expected prefix of {', '.join(get_args(Prefix))}, received {self.prefix!r}."
            )

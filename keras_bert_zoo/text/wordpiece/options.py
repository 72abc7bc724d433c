"""Options of the WordPiece tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.options import TokenizerOptions


@dataclass(frozen=True, kw_only=True)
class WordPieceOptions(TokenizerOptions):
    """Options of `WordPieceTokenizer`, besides those of `TokenizerOptions`.

    Attributes:
        lowercase: bool. Lowercase the text.
        strip_accents: bool or None. Remove accents; None: the same as `lowercase`.
        handle_chinese_chars: bool. Make each CJK ideograph a word.
        max_characters_per_word: int. A longer word becomes one `unk_token`.
        trim_offsets: bool. Exclude the whitespace that an added token takes from its offsets, as
            MPNet's tokenizer does.
        tokenizer_class: str or None. The transformers class that `save` names, if it is equivalent;
            by default the first equivalent class.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> WordPieceOptions(lowercase=False).strips_accents
        False
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    handle_chinese_chars: bool = True
    max_characters_per_word: int = 100
    trim_offsets: bool = False
    tokenizer_class: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_characters_per_word < 1:
            raise ConfigError(
                "Expected max_characters_per_word of at least 1, received "
                f"{self.max_characters_per_word}."
            )

    @property
    def strips_accents(self) -> bool:
        """Whether accents are removed."""
        return self.lowercase if self.strip_accents is None else self.strip_accents

"""Options of the byte-level BPE tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from keras_bert_zoo.text.options import TokenizerOptions


@dataclass(frozen=True, kw_only=True)
class ByteBpeOptions(TokenizerOptions):
    """Options of `ByteBpeTokenizer`, besides those of `TokenizerOptions`.

    The defaults are RoBERTa's: <s> a </s></s> b </s>, all of segment 0.

    Attributes:
        nfc: bool. Compose characters (NFC) first, as ModernBERT does.
        add_prefix_space: bool. Put a space before every text that does not begin with one.
        trim_offsets: bool. Exclude spaces from the offsets, as RoBERTa does and ModernBERT does
            not.
        unknown_bytes: bool. Map bytes that the vocabulary lacks to `unk_token`. Otherwise the
            vocabulary must contain all 256 bytes.

    Example:
        >>> ByteBpeOptions(nfc=True).packing
        Packing(separators_between=2, second_segment_id=0, cls_segment_id=0)
    """

    unk_token: str = "<unk>"
    cls_token: str = "<s>"
    sep_token: str = "</s>"
    pad_token: str = "<pad>"
    mask_token: str | None = "<mask>"
    separators_between: int = 2
    second_segment_id: int = 0
    nfc: bool = False
    add_prefix_space: bool = False
    trim_offsets: bool = True
    unknown_bytes: bool = False

"""The options of a pretraining data build, checked before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.pretraining.corpus import CorpusFile
from keras_bert_zoo.pretraining.dataset import PAIRS
from keras_bert_zoo.pretraining.sentences import sentence_splitter
from keras_bert_zoo.pretraining.shard import ShardOptions
from keras_bert_zoo.pretraining.spill import Partition
from keras_bert_zoo.pretraining.word_begins import word_finder
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.validation import check_integer

__all__ = ["BuildOptions", "checked_options"]

_SHARD_BYTES = 1 << 25  # of text
_COMPRESSION = 4  # text is about this many times as large as its compressed file


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of a build that determine its records."""

    documents: str
    text_field: str | None
    encoding: str
    sentences: str
    word_boundaries: str
    partition: Partition
    shard: ShardOptions
    compress: bool


def checked_options(
    corpus: Sequence[CorpusFile], tokenizer: Tokenizer, **given: Any
) -> BuildOptions:
    """Checks the options of a build.

    Args:
        corpus: the files.
        tokenizer: Tokenizer.
        **given: the options of `build.build_pretraining_data`.

    Returns:
        BuildOptions.

    Raises:
        ConfigError: an option is out of range, or a package is not installed.
    """
    check_integer("max_length", given["max_length"], minimum=8)
    check_integer("copies", given["copies"], minimum=1)
    check_integer("processes", given["processes"], minimum=1)
    check_integer("seed", given["seed"], minimum=-(2**63), maximum=2**63 - 1)
    if given["shards"] is not None:
        check_integer("shards", given["shards"], minimum=1, maximum=99_999)
    pairs = given["pairs"]
    if pairs not in PAIRS:
        raise ConfigError(f"expected `pairs` to be one of {', '.join(PAIRS)}, received {pairs!r}")
    if given["crosses_documents"] and pairs != "none":
        raise ConfigError(
            f"expected pairs='none' with `crosses_documents`, received {pairs!r}: a pair is of one "
            "document"
        )
    if given["pack_examples"] and pairs != "none":
        raise ConfigError(
            f"expected pairs='none' with `pack_examples`, received {pairs!r}: a record has one "
            "label of a pair"
        )
    for name in ("heldout", "short_share"):
        value = given[name]
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"expected `{name}` to be in [0, 1), received {value!r}")
    masking = given["masking"]
    if masking is not None and tokenizer.mask_token_id is None:
        raise ConfigError("expected a tokenizer with a mask token for `masking`")
    if masking is not None and given["word_boundaries"] != "vocabulary":
        masking = replace(masking, whole_words=True)
    sentences = given["sentences"] or ("lines" if pairs == "none" else "rules")
    sentence_splitter(sentences)
    word_finder(given["word_boundaries"])
    short = given["short_share"]
    if short is None:
        short = 0.0 if pairs == "none" else 0.1
    shards = given["shards"] or max(1, -(-sum(map(_text_bytes, corpus)) // _SHARD_BYTES))
    held = max(1, round(shards * given["heldout"])) if given["heldout"] else 0
    return BuildOptions(
        documents=given["documents"],
        text_field=given["text_field"],
        encoding=given["encoding"],
        sentences=sentences,
        word_boundaries=given["word_boundaries"],
        partition=Partition(shards, held, float(given["heldout"]), given["seed"]),
        shard=ShardOptions(
            max_length=given["max_length"],
            pairs=pairs,
            short_share=float(short),
            crosses_documents=bool(given["crosses_documents"]),
            packs=bool(given["pack_examples"]),
            copies=given["copies"],
            masking=masking,
            seed=given["seed"],
        ),
        compress=bool(given["compress"]),
    )


def _text_bytes(file: CorpusFile) -> int:
    compressed = file.path.suffix in (".gz", ".zst")
    return file.bytes * (_COMPRESSION if compressed else 1)

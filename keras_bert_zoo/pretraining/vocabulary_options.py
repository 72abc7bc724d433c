"""Options of a vocabulary, with the tokenizers of the encoder families."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.extras import check_package
from keras_bert_zoo.pretraining.corpus import DOCUMENT_KINDS, CorpusFile, corpus_files

__all__ = ["FAMILIES", "KINDS", "VocabularyFamily", "VocabularyOptions"]

KINDS = ("wordpiece", "byte_bpe", "unigram")
"""The kinds of vocabularies: BERT's, RoBERTa's and ALBERT's."""

_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclass(frozen=True)
class VocabularyFamily:
    """The tokenizer of an encoder family.

    Args:
        kind: str. One of `KINDS`.
        special_tokens: tuple of str, the family's special tokens in the order of their ids.
        tokenizer_class: str. The class of transformers that has this family's rules for unigram
            models; empty for other kinds.
        lowercase, strip_accents: bool or None. The family's defaults; None: it has no such option.
    """

    kind: str
    special_tokens: tuple[str, ...]
    tokenizer_class: str = ""
    lowercase: bool | None = None
    strip_accents: bool | None = None


_WORDPIECE = VocabularyFamily("wordpiece", _BERT, "", lowercase=True, strip_accents=True)
_DEBERTA = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")

FAMILIES: Mapping[str, VocabularyFamily] = {
    **dict.fromkeys(
        ("bert", "distilbert", "electra", "ernie", "mobilebert", "roformer"), _WORDPIECE
    ),
    "roberta": VocabularyFamily("byte_bpe", _ROBERTA),
    "modernbert": VocabularyFamily("byte_bpe", _BERT),
    "albert": VocabularyFamily(
        "unigram", ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), "AlbertTokenizer",
        lowercase=True, strip_accents=True,
    ),
    "xlm-roberta": VocabularyFamily("unigram", _ROBERTA, "XLMRobertaTokenizer"),
    "deberta-v2": VocabularyFamily(
        "unigram", _DEBERTA, "DebertaV2Tokenizer", lowercase=False
    ),
}  # fmt: skip
"""Family -> its tokenizer."""

VOCABULARY = 30_000
"""The default number of tokens."""

_DEFAULT_FAMILIES = {"wordpiece": "bert", "byte_bpe": "roberta", "unigram": "albert"}
_COVERAGE = {"wordpiece": 0.9999, "unigram": 0.9995}
_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """The checked options of `train_tokenizer`; see there."""

    files: tuple[CorpusFile, ...]
    family: str
    vocabulary_size: int
    may_be_smaller: bool
    lowercase: bool
    strip_accents: bool
    min_frequency: int
    limit_alphabet: int | None
    character_coverage: float
    special_tokens: tuple[str, ...]
    max_length: int | None
    sample_lines: int
    seed: int
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return FAMILIES[self.family].kind

    @property
    def all_special_tokens(self) -> tuple[str, ...]:
        """The special tokens of the family, then the further ones."""
        return (*FAMILIES[self.family].special_tokens, *self.special_tokens)

    @classmethod
    def checked(
        cls,
        files: Sequence[str | os.PathLike[str]],
        *,
        kind: str | None = None,
        family: str | None = None,
        vocabulary_size: int | None = None,
        lowercase: bool | None = None,
        strip_accents: bool | None = None,
        min_frequency: int | None = None,
        limit_alphabet: int | None = None,
        character_coverage: float | None = None,
        special_tokens: Sequence[str] = (),
        max_length: int | None = 512,
        sample_lines: int | None = None,
        seed: int = 0,
        documents: str = "blank-line",
        text_field: str | None = None,
        encoding: str = "utf-8",
    ) -> VocabularyOptions:
        """Checks the options of `train_tokenizer`, without TensorFlow.

        Raises:
            ConfigError, DataError: see `train_tokenizer`.
        """
        family = _family(kind, family)
        may_be_smaller, vocabulary_size = vocabulary_size is None, vocabulary_size or VOCABULARY
        known = FAMILIES[family]
        _check_package(known.kind)
        _check_given(
            f"the family {family}",
            lowercase=(lowercase, known.lowercase is not None),
            strip_accents=(strip_accents, known.strip_accents is not None),
        )
        _check_given(
            f"the kind {known.kind}",
            min_frequency=(min_frequency, known.kind != "unigram"),
            limit_alphabet=(limit_alphabet, known.kind == "wordpiece"),
            character_coverage=(character_coverage, known.kind != "byte_bpe"),
            sample_lines=(sample_lines, known.kind == "unigram"),
        )
        for name, value in {
            "vocabulary_size": vocabulary_size,
            "min_frequency": 2 if min_frequency is None else min_frequency,
            "limit_alphabet": limit_alphabet or 1,
            "max_length": max_length or 1,
            "sample_lines": 1 if sample_lines is None else sample_lines,
        }.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"expected `{name}` of at least 1, received {value!r}")
        coverage = _COVERAGE.get(known.kind, 1.0)
        coverage = coverage if character_coverage is None else character_coverage
        if not 0.9 <= coverage <= 1:
            raise ConfigError(
                f"expected `character_coverage` from 0.9 to 1, received {character_coverage!r}"
            )
        special = _special_tokens(special_tokens, known)
        smallest = len(known.special_tokens) + len(special) + 1
        smallest += (_BYTES - 1) * (known.kind == "byte_bpe")
        if vocabulary_size < smallest:
            raise ConfigError(
                f"expected `vocabulary_size` of at least {smallest}, for the special tokens and "
                f"{'the 256 bytes' if known.kind == 'byte_bpe' else 'one character'}, received "
                f"{vocabulary_size}"
            )
        lower = bool(known.lowercase) if lowercase is None else lowercase
        strips = bool(known.strip_accents) if known.kind == "unigram" else lower
        if documents not in DOCUMENT_KINDS:
            raise ConfigError(
                f"expected `documents` to be one of {', '.join(DOCUMENT_KINDS)}, received "
                f"{documents!r}"
            )
        return cls(
            files=tuple(corpus_files(files)),
            family=family,
            vocabulary_size=vocabulary_size,
            may_be_smaller=may_be_smaller,
            lowercase=lower,
            strip_accents=strips if strip_accents is None else strip_accents,
            min_frequency=2 if min_frequency is None else min_frequency,
            limit_alphabet=limit_alphabet,
            character_coverage=coverage,
            special_tokens=special,
            max_length=max_length,
            sample_lines=1_000_000 if sample_lines is None else sample_lines,
            seed=seed,
            reading={"documents": documents, "field": text_field, "encoding": encoding},
        )


def _family(kind: str | None, family: str | None) -> str:
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"expected `kind` to be one of {', '.join(KINDS)}, received {kind!r}")
    if family is None:
        return _DEFAULT_FAMILIES[kind or "wordpiece"]
    if family not in FAMILIES:
        raise ConfigError(
            f"expected `family` to be one of {', '.join(FAMILIES)}, received {family!r}"
        )
    if kind not in (None, FAMILIES[family].kind):
        raise ConfigError(
            f"expected `kind` to be {FAMILIES[family].kind}, the kind of the family {family}, "
            f"received {kind!r}; leave out one of the two"
        )
    return family


def _check_package(kind: str) -> None:
    purpose = f"vocabularies of the kind {kind}"
    check_package("tokenizers", purpose, extra="pretraining")
    if kind == "unigram":
        check_package("sentencepiece", purpose, extra="pretraining")


def _check_given(of: str, **options: tuple[Any, bool]) -> None:
    """Raises ConfigError for an option that is given and does not apply."""
    for name, (value, applies) in options.items():
        if value is not None and not applies:
            raise ConfigError(f"expected no `{name}` for {of}, received {value!r}; leave it out")


def _special_tokens(tokens: Sequence[str], family: VocabularyFamily) -> tuple[str, ...]:
    if isinstance(tokens, str) or not all(
        isinstance(token, str) and token and token == token.strip() and token.isprintable()
        for token in tokens
    ):
        raise ConfigError(
            "expected `special_tokens` as a list of strings without white space around them, "
            f"received {tokens!r}"
        )
    repeated = [
        token
        for index, token in enumerate(tokens)
        if token in family.special_tokens or token in tokens[:index]
    ]
    if repeated:
        raise ConfigError(
            f"expected `special_tokens` that are new and different, received {repeated[0]!r}; the "
            f"family has {', '.join(family.special_tokens)}"
        )
    return tuple(tokens)

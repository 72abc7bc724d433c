"""Vocabularies from plain text: WordPiece, byte-level BPE and SentencePiece unigram."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining.corpus import read_documents
from keras_bert_zoo.pretraining.vocabulary_options import FAMILIES, VocabularyOptions
from keras_bert_zoo.text.byte_bpe.options import ByteBpeOptions
from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.sentencepiece.families import class_normalizer
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.vocabulary_files import dump_json
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

__all__ = ["Progress", "train_tokenizer"]

Progress = Callable[[str, int, int], None]
"""A function of a stage ("characters", "words", "text" or "training"), the characters read in it
and the number of files read."""

_PREFIX = "##"
_BATCH_CHARACTERS = 1 << 20
_WORDPIECE_CHARACTERS = 64  # the longest token; the tokenizer's limit is 256 bytes
_BPE_BYTES = 128  # the longest token, as in GPT-2's vocabulary
# SentencePiece leaves out lines of more than 4,192 bytes, without an error. A character has at most
# four.
_LINE_CHARACTERS = 1_000
# Results depend on the number of threads, because floats are summed in another order.
_SENTENCEPIECE_THREADS = 16
# The tokens of spm_train that differ between the families.
_SENTENCEPIECE_IDS: dict[str, dict[str, Any]] = {
    "AlbertTokenizer": {
        "pad_id": 0, "pad_piece": "<pad>", "unk_id": 1, "bos_id": 2, "bos_piece": "[CLS]",
        "eos_id": 3, "eos_piece": "[SEP]",
    },
    "DebertaV2Tokenizer": {
        "pad_id": 0, "pad_piece": "[PAD]", "bos_id": 1, "bos_piece": "[CLS]", "eos_id": 2,
        "eos_piece": "[SEP]", "unk_id": 3, "unk_piece": "[UNK]",
        # The tokenizer ignores the model's character map.
        "normalization_rule_name": "identity",
    },
    "XLMRobertaTokenizer": {},
}  # fmt: skip
# The tokens that the class adds to those of the model file.
_SENTENCEPIECE_MORE = {"XLMRobertaTokenizer": 2}


def train_tokenizer(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Tokenizer:
    """Trains a vocabulary on text files, and writes the tokenizer as a Hugging Face directory.

    `Tokenizer.from_preset` and transformers' `AutoTokenizer` load the directory with identical
    ids. The text is normalized as this tokenizer does it. Two runs give the same files.

    WordPiece and byte-level BPE are trained by the package tokenizers, unigram by sentencepiece
    (extra `pretraining`). The text is read as a stream. Memory holds the distinct words with their
    counts; for unigram models, a sample of lines.

    Args:
        files: list of file names or patterns; see `pretraining.corpus`. Plain text, or JSON Lines,
            also with `.gz` or `.zst`.
        output: directory to write, or None.
        progress: function or None, called about once per megabyte; see `Progress`.
        **options: the following.
        kind: str or None. "wordpiece" (BERT), "byte_bpe" (RoBERTa, ModernBERT) or "unigram"
            (ALBERT, XLM-R, DeBERTa). None: that of the family, or "wordpiece".
        family: str or None. The encoder family, one of `pretraining.vocabulary_options.FAMILIES`.
            It sets the special tokens, the layout of pairs and the normalization. None: bert,
            roberta or albert, by `kind`.
        vocabulary_size: int or None. Number of tokens, with special tokens. None: 30,000, or fewer
            if the text gives no more.
        lowercase: bool or None. Lowercase the text. None: the family's default, True for BERT and
            ALBERT. RoBERTa, ModernBERT and XLM-R keep case.
        strip_accents: bool or None. Remove accents. None: the same as `lowercase` for WordPiece;
            True for ALBERT. It also removes the vowel signs of scripts such as Devanagari: pass
            False for them.
        min_frequency: int or None. The smallest count of a pair that is merged, for WordPiece and
            byte-level BPE. Default: 2.
        limit_alphabet: int or None. The largest number of characters in a WordPiece vocabulary;
            the rarest ones become unknown. Default: no limit.
        character_coverage: float or None. The share of the text's characters that the vocabulary
            covers; rarer characters become unknown. Default: 0.9999 for WordPiece, 0.9995 for
            unigram. Byte-level BPE covers all.
        special_tokens: list of str. Further special tokens, after those of the family.
        max_length: int or None. The longest input, `model_max_length`. Default: 512.
        sample_lines: int or None. The largest number of lines that a unigram model is trained on,
            drawn uniformly; longer lines are cut to 1,000 characters, each part of which counts.
            Default: 1,000,000.
        seed: int. Seed of that sample.
        documents, text_field, encoding: see `documents`, `field` and `encoding` of
            `pretraining.corpus.read_documents`.

    Returns:
        Tokenizer, of the class of its kind.

    Raises:
        ConfigError: an option is unknown, out of range or does not apply; a package is missing; or
            `vocabulary_size` is too small for the characters of the text.
        DataError: a file cannot be read, or has no text, or the text is too small for
            `vocabulary_size`.

    Example:
        >>> tokenizer = train_tokenizer(
        ...     ["tests/assets/pretraining/two_documents.txt"], vocabulary_size=38)
        >>> tokenizer.vocabulary[:5], tokenizer.vocabulary_size
        (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'], 38)

    Source: arXiv 1810.04805, section 3 (WordPiece); GPT-2 (byte-level BPE); arXiv 1804.10959
    (unigram).
    """
    try:
        checked = VocabularyOptions.checked(files, **options)
    except TypeError as error:
        raise ConfigError(f"unknown option of train_tokenizer: {error}") from None
    tokenizer = _TRAINERS[checked.kind](checked, progress or _no_progress)
    if output is not None:
        tokenizer.save(output)
    return tokenizer


def _no_progress(stage: str, characters: int, files: int) -> None:
    pass


def _lines(options: VocabularyOptions, stage: str, progress: Progress) -> Iterator[list[str]]:
    """Yields the stripped lines of the corpus, in batches of about a million characters."""
    batch: list[str] = []
    size = total = 0
    for number, file in enumerate(options.files):
        for document in read_documents(file, **options.reading):
            batch += map(str.strip, document)
            size += sum(map(len, document))
            if size >= _BATCH_CHARACTERS:
                yield batch
                total += size
                batch, size = [], 0
                progress(stage, total, number)
    if batch:
        yield batch
    if not total + size:
        names = ", ".join(str(file.path) for file in options.files[:3])
        raise DataError(f"expected text in {names}, but all lines are empty")
    progress(stage, total + size, len(options.files))


def _check_full(size: int, options: VocabularyOptions) -> None:
    """Raises DataError if the text gave fewer tokens than requested."""
    if not options.may_be_smaller and size < options.vocabulary_size:
        raise DataError(
            f"expected more text for `vocabulary_size={options.vocabulary_size}`, received text "
            f"that gives at most {size:,} tokens; choose a smaller vocabulary or add text"
        )


def _too_small(smallest: int, options: VocabularyOptions, hint: str) -> ConfigError:
    return ConfigError(
        f"expected `vocabulary_size` of at least {smallest:,}, for the special tokens and the "
        f"characters of the text, received {options.vocabulary_size:,}; choose a larger one or "
        f"{hint}"
    )


# --- WordPiece ---


def _train_wordpiece(options: VocabularyOptions, progress: Progress) -> Tokenizer:
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=options.strip_accents,
        lowercase=options.lowercase,
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    first, characters = _alphabet(options, normalizer, splitter, progress)
    if len(first) > options.vocabulary_size:
        raise _too_small(len(first), options, "lower `character_coverage`")
    # With ids for all characters, ties between pairs do not depend on the order of a hash table.
    tokenizer = _new_bpe(normalizer, splitter, continuing_subword_prefix=_PREFIX)
    vocabulary, _ = _merged(
        tokenizer,
        _lines(options, "words", progress),
        progress,
        vocab_size=options.vocabulary_size,
        min_frequency=options.min_frequency,
        special_tokens=first,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix=_PREFIX,
        max_token_length=_WORDPIECE_CHARACTERS,
    )
    _check_full(len(vocabulary), options)
    return WordPieceTokenizer(
        vocabulary,
        WordPieceOptions(
            lowercase=options.lowercase,
            strip_accents=options.strip_accents,
            additional_special_tokens=options.special_tokens,
            max_length=options.max_length,
        ),
    )


def _alphabet(
    options: VocabularyOptions, normalizer: Any, splitter: Any, progress: Progress
) -> tuple[list[str], list[str]]:
    """Returns the first tokens, and the characters of the vocabulary.

    The first tokens are the special tokens, the characters, and those that occur inside words.
    """
    counts = np.zeros(0x110000, np.int64)

    def normalized() -> Iterator[str]:
        for batch in _lines(options, "characters", progress):
            text = normalizer.normalize_str("\n".join(batch))
            codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            part = np.bincount(codes)
            counts[: len(part)] += part
            yield text

    tokenizer = _new_bpe(None, splitter, continuing_subword_prefix=_PREFIX)
    # No merges: only the characters at the beginning and inside of words.
    tokens, _ = _merged(
        tokenizer, normalized(), progress, vocab_size=1, continuing_subword_prefix=_PREFIX
    )
    every = [token for token in tokens if len(token) == 1]
    # The most frequent first; equally frequent ones by code point.
    every.sort(key=lambda character: (-counts[ord(character)], character))
    sums = np.cumsum([counts[ord(character)] for character in every])
    needed = int(np.searchsorted(sums, options.character_coverage * sums[-1])) + 1
    chosen = sorted(every[: min(needed, options.limit_alphabet or needed)])
    inside = {token.removeprefix(_PREFIX) for token in tokens if len(token) == 1 + len(_PREFIX)}
    return [
        *dict.fromkeys([*options.all_special_tokens, *chosen]),
        *(_PREFIX + character for character in chosen if character in inside),
    ], chosen


def _new_bpe(normalizer: Any, splitter: Any, **options: Any) -> Any:
    from tokenizers import Tokenizer as Trained
    from tokenizers import models

    tokenizer = Trained(models.BPE(**options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return tokenizer


def _merged(
    tokenizer: Any, texts: Iterator[Any], progress: Progress, **options: Any
) -> tuple[list[str], list[tuple[str, str]]]:
    """Trains a model of merges; returns its tokens in the order of their ids, and its merges."""
    from tokenizers import trainers

    def noted() -> Iterator[Any]:
        yield from texts
        progress("training", 0, 0)

    tokenizer.train_from_iterator(noted(), trainers.BpeTrainer(show_progress=False, **options))
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return sorted(ids, key=ids.__getitem__), [(left, right) for left, right in model["merges"]]


# --- Byte-level BPE ---


def _train_byte_bpe(options: VocabularyOptions, progress: Progress) -> Tokenizer:
    from tokenizers import normalizers, pre_tokenizers

    modern = options.family == "modernbert"
    tokenizer = _new_bpe(
        normalizers.NFC() if modern else None,
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    )
    vocabulary, merges = _merged(
        tokenizer,
        _lines(options, "words", progress),
        progress,
        vocab_size=options.vocabulary_size,
        min_frequency=options.min_frequency,
        special_tokens=list(options.all_special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=_BPE_BYTES,
    )
    _check_full(len(vocabulary), options)
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
            FAMILIES["modernbert"].special_tokens, strict=True)
    )  # fmt: skip
    mask_token = names["mask_token"] if modern else ByteBpeOptions.mask_token
    more: dict[str, Any] = {"nfc": True, "trim_offsets": False, "separators_between": 1, **names}
    return ByteBpeTokenizer(
        vocabulary,
        merges,
        ByteBpeOptions(
            additional_special_tokens=options.special_tokens,
            added_tokens=[AddedToken(str(mask_token), lstrip=True)],
            max_length=options.max_length,
            **(more if modern else {}),
        ),
    )


# --- Unigram ---


def _train_unigram(options: VocabularyOptions, progress: Progress) -> Tokenizer:
    import sentencepiece

    name = FAMILIES[options.family].tokenizer_class
    flags = {
        "do_lower_case": options.lowercase,
        "keep_accents": not options.strip_accents,
    }
    sample = _sample(options, progress)
    progress("training", 0, 0)
    model = io.BytesIO()
    own = _SENTENCEPIECE_IDS[name]
    given = [own.get("bos_piece"), own.get("eos_piece"), own.get("pad_piece")]
    symbols = [*options.special_tokens]
    if "[MASK]" in options.all_special_tokens and given[0]:
        symbols.insert(0, "[MASK]")
    more = _SENTENCEPIECE_MORE.get(name, 0)
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=map(_normalized_by(class_normalizer(name, flags, b"")), sample),
            model_writer=model,
            model_type="unigram",
            vocab_size=options.vocabulary_size - more,
            hard_vocab_limit=not options.may_be_smaller,
            character_coverage=options.character_coverage,
            control_symbols=symbols,
            num_threads=_SENTENCEPIECE_THREADS,
            minloglevel=2,
            **own,
        )
    except RuntimeError as error:
        raise _explained(error, options, more) from None
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        config = {"tokenizer_class": name, "model_max_length": options.max_length}
        if FAMILIES[options.family].lowercase is not None:
            config["do_lower_case"] = options.lowercase
        if FAMILIES[options.family].strip_accents is not None:
            config["keep_accents"] = not options.strip_accents
        file = "sentencepiece.bpe.model" if name == "XLMRobertaTokenizer" else "spiece.model"
        Path(folder, file).write_bytes(model.getvalue())
        Path(folder, "tokenizer_config.json").write_bytes(dump_json(config))
        return load_tokenizer_directory(folder)


def _sample(options: VocabularyOptions, progress: Progress) -> list[str]:
    """Draws lines uniformly, in one pass (reservoir sampling)."""
    generator = random.Random(options.seed)
    sample: list[str] = []
    batches = _lines(options, "text", progress)
    lines = itertools.chain.from_iterable(batches)
    for index, part in enumerate(itertools.chain.from_iterable(map(_parts, lines))):
        if index < options.sample_lines:
            sample.append(part)
        elif (place := generator.randrange(index + 1)) < options.sample_lines:
            sample[place] = part
    return sample


def _parts(line: str) -> Iterator[str]:
    """Cuts a long line, at white space where possible."""
    begin = 0
    while len(line) - begin > _LINE_CHARACTERS:
        end = line.rfind(" ", begin + 1, begin + _LINE_CHARACTERS)
        end = begin + _LINE_CHARACTERS if end < 0 else end
        yield line[begin:end]
        begin = end
    yield line[begin:]


def _normalized_by(normalizer: Any) -> Callable[[str], str]:
    """Returns the function of a normalizer in the form of a tokenizer.json."""
    from tokenizers import Tokenizer as Trained

    if normalizer is None:
        return str
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": False}
    parts = dict.fromkeys(("truncation", "padding", "pre_tokenizer", "post_processor", "decoder"))
    description = {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model}
    loaded = Trained.from_str(json.dumps({**parts, **description}))
    return loaded.normalizer.normalize_str


def _explained(error: RuntimeError, options: VocabularyOptions, more: int) -> Exception:
    """Converts an error of SentencePiece's trainer."""
    text = str(error)
    if match := re.search(r"Vocabulary size too high .*<= (\d+)", text):
        try:
            _check_full(int(match[1]) + more, options)
        except DataError as full:
            return full
    if match := re.search(r"smaller than required_chars\.? (\d+) vs (\d+)", text):
        return _too_small(int(match[2]) + more, options, "lower `character_coverage`")
    return DataError(f"cannot train a unigram model on this text: {text}")


_TRAINERS: dict[str, Callable[[VocabularyOptions, Progress], Tokenizer]] = {
    "wordpiece": _train_wordpiece,
    "byte_bpe": _train_byte_bpe,
    "unigram": _train_unigram,
}

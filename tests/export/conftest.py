"""Small tasks with random weights, exported once for all tests of this folder."""

from dataclasses import dataclass
from typing import Any

import keras
import pytest
import tensorflow as tf

from keras_bert_zoo import EncoderConfig, TextClassifier, TextRegressor, WordPieceTokenizer
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.export.saved_model import SavedModelExport
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.heads.classifier import ClassificationHead
from tests.helpers import eagerly

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS),
    "the", "card", "has", "not", "arrived", "天", "气", "!", "?", ".", ",",
]  # fmt: skip
LABELS = ["late_card", "weather, 天气", "other"]
ATTENTION_GROUPS = 2  # tests of the command line use the default


def make_task(kind: str, *, dtype: str = "float32") -> Any:
    """A task of two blocks whose random weights are large enough to tell texts apart."""
    task = _new_task(kind, dtype)
    # Biases too: TensorFlow drops the addition of a zero, and with it what is fused to it.
    for variable in task.weights:
        noise = keras.random.normal(variable.shape, stddev=0.1)
        variable.assign_add(noise)
    if isinstance(task, TextClassifier):
        # So that the labels differ from text to text, whatever the weights happen to be.
        columns = [list(column) for column in zip(*hostile_rows(task), strict=True)]
        with eagerly():
            logits = task.predict_logits(tuple(columns) if task.pair else columns[0])
        task.head.bias.assign_sub(logits.mean(axis=0))
    return task


def _new_task(kind: str, dtype: str) -> Any:
    keras.utils.set_random_seed(1)
    config = EncoderConfig(
        vocabulary_size=len(VOCABULARY),
        hidden_dim=32,
        num_layers=2,
        num_heads=4,
        intermediate_dim=64,
        max_sequence_length=48,
        initializer_range=0.3,
    )
    encoder = BertEncoder(config, dtype=dtype)
    tokenizer = WordPieceTokenizer(VOCABULARY)
    if kind == "regressor":
        head = ClassificationHead(1, dropout=0.1, initializer_range=3.0)
        return TextRegressor(encoder, tokenizer, head, max_length=48)
    head = ClassificationHead(len(LABELS), dropout=0.1, initializer_range=1.0)
    task = TextClassifier(
        encoder, tokenizer, LABELS, head=head, max_length=48, multi_label=kind == "multi_label_pair"
    )
    task.pair = "pair" in kind
    return task


@dataclass
class Exported:
    task: Any
    export: SavedModelExport
    loaded: Any

    def ask(self, **inputs: Any) -> dict[str, Any]:
        """Returns the outputs of serving_default as NumPy arrays."""
        signature = self.loaded.signatures["serving_default"]
        tensors = {
            name: tf.constant(texts, tf.string, shape=[len(texts)])
            for name, texts in inputs.items()
        }
        return {name: value.numpy() for name, value in signature(**tensors).items()}


def _exported(tmp_path_factory: Any, kind: str, **options: Any) -> Exported:
    task = make_task(kind)
    path = tmp_path_factory.mktemp("models") / kind
    with eagerly():  # the export's graph is traced; the task's answers are computed op by op
        export = task.export(path, attention_groups=ATTENTION_GROUPS, **options)
    return Exported(task, export, tf.saved_model.load(str(export.path)))


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A classifier of one label, frozen."""
    return _exported(tmp_path_factory, "single_label")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A multi-label classifier of pairs."""
    return _exported(tmp_path_factory, "multi_label_pair")


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A regressor whose weights are variables, not constants."""
    return _exported(tmp_path_factory, "regressor", freeze=False)


@pytest.fixture(scope="session")
def tokenizer() -> WordPieceTokenizer:
    """A tokenizer of a small vocabulary."""
    return WordPieceTokenizer(VOCABULARY)

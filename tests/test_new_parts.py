"""A new family, head, task and data format each need one file and one row of a registry."""

import keras
import pytest

from keras_bert_zoo.checkpoints import names
from keras_bert_zoo.data import tables
from keras_bert_zoo.encoders import registry
from keras_bert_zoo.heads import kinds
from keras_bert_zoo.presets.headed_model import HeadedModel
from keras_bert_zoo.tasks import registry as tasks
from tests.checks import check_encoder, check_export, check_head, check_task
from tests.helpers import eagerly, random_inputs
from tests.tasks.every_task import make_tokenizer
from tests.toy import family, head, reader, task

TEXTS = ["a b", "x y", "b a", "y", "b", "x"] * 4


@pytest.fixture
def toys(monkeypatch):
    """Registers the toys for one test."""
    for module, table in ((registry, "_FAMILIES"), (names, "_FAMILIES"), (kinds, "HEADS"),
                          (tasks, "TASKS"), (tables, "FORMATS")):  # fmt: skip
        monkeypatch.setattr(module, table, dict(getattr(module, table)))
    registry.register_family(family.ToyEncoder, family.NAMES)
    kinds.HEADS["first_token"] = kinds.HeadKind(layer=head.FirstTokenHead, name="first_token")
    tasks.TASKS["toy"] = task.ToyClassifier
    tables.FORMATS["pipe"] = reader.PIPE


def test_toys_train_save_load_and_export(toys, tmp_path):
    (tmp_path / "train.pipe").write_text("".join(
        f"{'first' if set(text) & set('ab') else 'last'}|{text}\n" for text in TEXTS
    ))  # fmt: skip
    examples = tables.read_table(tmp_path / "train.pipe")
    assert examples.texts == TEXTS
    keras.utils.set_random_seed(0)
    tokenizer = make_tokenizer()
    config = family.ToyConfig(
        vocabulary_size=tokenizer.vocabulary_size, hidden_dim=8, num_layers=1, num_heads=2,
        intermediate_dim=16, max_sequence_length=12, dropout=0.0, initializer_range=0.3,
    )  # fmt: skip
    encoder = registry.build_encoder(config)
    encoder.tokenizer = tokenizer
    encoder.save(tmp_path / "base")
    classifier = task.ToyClassifier.from_preset(tmp_path / "base", labels=["first", "last"])
    with eagerly():
        classifier.fit(examples, epochs=5, learning_rate=0.1, batch_size=6, verbose=0)
        answers = classifier.predict(TEXTS)["label"].tolist()
        assert answers == examples.labels

        check_task(classifier, TEXTS, tmp_path)
        assert type(tasks.load_task(tmp_path / "saved")) is task.ToyClassifier
        check_export(classifier, TEXTS, tmp_path)


def test_a_toy_family_and_head(toys, tmp_path):
    encoder = registry.build_encoder(family.ToyConfig(
        vocabulary_size=9, hidden_dim=8, num_layers=1, num_heads=2, intermediate_dim=8,
        max_sequence_length=8, dropout=0.0, attention_dropout=0.0, initializer_range=0.3,
    ))  # fmt: skip
    inputs = random_inputs(3, 5, vocabulary_size=9)
    check_encoder(encoder, inputs, tmp_path)
    check_head(
        HeadedModel(encoder, {"first_token": kinds.make_head("first_token", encoder, 3)}), inputs
    )

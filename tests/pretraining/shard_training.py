"""Training from shards on one and two replicas; test_fit.py runs it as a process."""

import sys

import numpy as np
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.electra import ElectraConfig
from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases
from tests.helpers import eagerly
from tests.tasks.every_task import VOCABULARY, make_tokenizer, spread_weights


def make(dropout=0.0, **options):
    config = kbz.EncoderConfig(
        vocabulary_size=len(VOCABULARY), hidden_dim=8, num_layers=1, num_heads=2,
        intermediate_dim=16, max_sequence_length=24, dropout=dropout, attention_dropout=dropout,
        initializer_range=0.3,
    )  # fmt: skip
    return kbz.Pretrainer.from_scratch(
        config, make_tokenizer(), ("masked_lm", "next_sentence"), max_length=24, **options
    )


def make_electra(dropout=0.0, **options):
    config = ElectraConfig(
        vocabulary_size=len(VOCABULARY), embedding_dim=8, hidden_dim=16, num_layers=1, num_heads=4,
        intermediate_dim=16, max_sequence_length=24, dropout=dropout, attention_dropout=dropout,
        initializer_range=0.3,
    )  # fmt: skip
    return kbz.Pretrainer.from_scratch(
        config, make_tokenizer(), ("masked_lm", "replaced_token_detection"), max_length=24,
        **options,
    )  # fmt: skip


def run(data, replicas, make):
    """Trains two passes and evaluates; returns all figures and weights."""
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{index}" for index in range(replicas)],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
    with strategy.scope():
        task = make()
    spread_weights(task)
    # 64 records: the last batch of a pass has 4 rows, and 5 is odd.
    phases = PretrainingPhases([Phase(data=data, steps=10), Phase(data=data, steps=3)])
    history = task.fit(
        phases, batch_size=5, epochs=2, steps_per_epoch=8, learning_rate=1e-2, verbose=0,
        validation_data=data, accumulation_steps=2,
    )  # fmt: skip
    values = [np.array(values) for values in history.history.values()]
    return [*values, *task.get_weights()]


def main():
    from keras_bert_zoo.pretraining.dataset import PretrainingData

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    data = PretrainingData.open(sys.argv[1])
    for maker in (make, make_electra):
        with eagerly():
            one, two = run(data, 1, maker), run(data, 2, maker)
        for own, other in zip(two, one, strict=True):
            assert np.isfinite(own).all()
            np.testing.assert_allclose(own, other, rtol=2e-4, atol=2e-5)
    print("equal")


if __name__ == "__main__":
    main()

"""Checks of any encoder, head, task and export; a new one is tested by being registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes, pooler_shapes
from keras_bert_zoo.heads.kinds import head_shapes
from keras_bert_zoo.presets.headed_model import HeadedModel
from tests.helpers import eagerly

TOLERANCE = 1e-5


def apart(actual: Any, expected: Any, mask: np.ndarray) -> float:
    """The largest difference at attended positions."""
    difference = np.abs(np.asarray(actual) - expected)
    if expected.shape[:2] == mask.shape:
        difference = difference * mask.reshape(mask.shape + (1,) * (expected.ndim - 2))
    return float(difference.max())


def check_specs(stated: Any, computed: Any) -> None:
    """Compares the shapes and dtypes that layers state with those of the tensors they compute."""
    keras.tree.assert_same_structure(stated, computed)
    pairs = zip(keras.tree.flatten(stated), keras.tree.flatten(computed), strict=True)
    for spec, values in pairs:
        assert values.dtype == spec.dtype, spec
        tf.TensorShape(spec.shape).assert_is_compatible_with(values.shape)


def check_encoder(encoder: Encoder, inputs: dict[str, np.ndarray], folder: Path) -> None:
    """Checks an encoder without dropout: layouts, shapes, gradients, bfloat16 and files.

    Args:
        encoder: Encoder, in float32.
        inputs: what it takes.
        folder: an empty directory.
    """
    mask, has_pooler = inputs["padding_mask"], encoder.has_pooler
    expected = encoder(inputs)
    shapes = encoder_shapes(encoder.config)
    if has_pooler:
        shapes |= pooler_shapes(encoder.config)
    assert shapes == {variable.path: tuple(variable.shape) for variable in encoder.weights}

    layout = "packed" if encoder.token_layout == "padded" else "padded"
    other = build_encoder(encoder.config, token_layout=layout, pooler=has_pooler)
    other.set_weights(encoder.get_weights())
    weights = np.random.default_rng(0).normal(size=expected["sequence_output"].shape)
    weights = (weights * mask[..., np.newaxis]).astype("float32")
    with tf.GradientTape() as tape:
        outputs = other(inputs, training=True)
        loss = tf.reduce_sum(outputs["sequence_output"] * weights)
        if has_pooler:
            loss += tf.reduce_sum(outputs["pooled_output"] * weights[:, 0])
    for name, values in outputs.items():
        assert apart(values, np.asarray(expected[name]), mask) < TOLERANCE, name
    gradients = tape.gradient(loss, other.trainable_variables)
    for variable, gradient in zip(other.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.path

    mixed = build_encoder(
        encoder.config, token_layout="padded", pooler=has_pooler, dtype="mixed_bfloat16"
    )
    mixed.set_weights(encoder.get_weights())
    for model in (mixed, other):
        stated = [layer.output for layer in model.layers]
        check_specs(stated, keras.Model(model.input, stated)(inputs))
    actual = mixed(inputs)["sequence_output"]
    assert actual.dtype == tf.bfloat16
    scale = float(np.abs(expected["sequence_output"]).max())
    # bfloat16 has 8 bits of mantissa.
    difference = apart(tf.cast(actual, tf.float32), np.asarray(expected["sequence_output"]), mask)
    assert 0 < difference < 0.2 * scale

    encoder.save(folder / "saved")
    again = Encoder.from_preset(folder / "saved")
    assert type(again) is type(encoder)
    assert again.config == encoder.config
    assert again.has_pooler == has_pooler
    for ours, theirs in zip(encoder.weights, again.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours, theirs)


def check_head(model: HeadedModel, inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """Checks the heads of a model: layouts, dtypes, shapes and gradients.

    Args:
        model: HeadedModel.
        inputs: what it takes.

    Returns:
        the model's outputs.
    """
    encoder = model.encoder
    layout = "packed" if model.token_layout == "padded" else "padded"
    other = HeadedModel(encoder, model.heads, token_layout=layout)
    with tf.GradientTape() as tape:
        outputs = other(inputs)
        loss = tf.add_n([tf.reduce_sum(tf.sin(values)) for values in outputs.values()])
    heads = [variable for head in model.heads.values() for variable in head.weights]
    for variable, gradient in zip(heads, tape.gradient(loss, heads), strict=True):
        assert gradient is not None, variable.path
    expected: dict[str, tf.Tensor] = model(inputs)
    check_specs(model.output, expected)
    check_specs(other.output, outputs)
    assert sorted(outputs) == sorted(expected) == sorted(model.heads)
    for kind, values in outputs.items():
        assert values.dtype == tf.float32
        assert apart(values, np.asarray(expected[kind]), inputs["padding_mask"]) < TOLERANCE
    shapes = encoder_shapes(encoder.config)
    if encoder.has_pooler:
        shapes |= pooler_shapes(encoder.config, encoder.pooled_for)
    for kind, head in model.heads.items():
        shapes |= head_shapes(encoder.config, kind, getattr(head, "units", None))
    variables = [*encoder.weights, *heads]
    assert shapes == {variable.path: tuple(variable.shape) for variable in variables}
    return expected


def check_equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compares answers: strings and integers exactly, floats up to rounding."""
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype == np.float32:  # sums of threads differ in the last place
            np.testing.assert_allclose(actual[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(actual[name], values, err_msg=name)


def check_task(task: Any, texts: Any, folder: Path) -> None:
    """Checks a task: configs, directories and .keras files give equal answers.

    Args:
        task: Task.
        texts: what its `predict` takes.
        folder: an empty directory.
    """
    config = json.loads(json.dumps(task.get_config()))
    built = type(task).from_config(config)
    assert built.get_config() == config
    variables = [(weight.path, weight.shape, weight.trainable) for weight in task.weights]
    assert variables == [(weight.path, weight.shape, weight.trainable) for weight in built.weights]
    with eagerly():
        expected = task.predict(texts)
        assert len({len(values) for values in expected.values()}) == 1
        for path in (folder / "saved", folder / "saved.keras"):
            task.save(path)
            again = type(task).load(path)
            assert again.options == task.options
            check_equal(again.predict(texts), expected)


def check_export(task: Any, texts: Any, folder: Path) -> None:
    """Checks that an export answers as the task does. `export` itself verifies it apart.

    Args:
        task: Task.
        texts: what its `predict` takes.
        folder: an empty directory.
    """
    columns = task.examples(texts, labelled=False).columns
    # Tell a task of single texts or of pairs which of them to serve.
    options = {"pair": True} if len(columns) > len(task.text_specs()) else {}
    task.export(folder / "served", **options)
    served = tf.saved_model.load(str(folder / "served" / "1")).signatures["serving_default"]
    specs = task.text_specs(pair=len(columns) == 2)
    strings = [tf.constant(list(column), tf.string) for column in columns]
    answers = served(**dict(zip(specs, strings, strict=True)))
    expected = task.answer_rows(*columns)
    check_equal({name: values.numpy() for name, values in answers.items()}, expected)

"""Initial weights: Keras' own, or zeros while a checkpoint is loaded."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.initializers import TruncatedNormal, untouched_weights


def test_draws_what_keras_draws():
    ours = TruncatedNormal(stddev=0.3, seed=5)((40, 30))
    theirs = keras.initializers.TruncatedNormal(stddev=0.3, seed=5)((40, 30))
    np.testing.assert_array_equal(ours, theirs)
    assert np.std(ours) > 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_gives_zeros_inside_the_scope_and_only_there(dtype):
    initializer = TruncatedNormal(stddev=0.3)
    with untouched_weights():
        value = initializer((700, 300), dtype)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(initializer((3, 3))))
        thread.start()
        thread.join()
    assert value.dtype == tf.as_dtype(dtype or "float32")
    assert value.shape == (700, 300)
    assert not np.any(tf.cast(value, tf.float32))
    assert np.any(elsewhere[0])  # other threads are not affected
    assert np.any(initializer((3, 3)))


def test_an_error_ends_the_scope():
    with pytest.raises(KeyError), untouched_weights():
        raise KeyError
    assert np.any(TruncatedNormal()((3, 3)))


def test_variables_of_the_scope_can_be_assigned_and_trained():
    with untouched_weights():
        variable = keras.Variable(TruncatedNormal(), shape=(600, 300), dtype="float32")
        layer = keras.layers.Dense(4, kernel_initializer=TruncatedNormal())
        keras.Sequential([keras.Input((3,)), layer])  # built in a graph
    assert not np.any(variable)
    variable.assign_add(tf.ones((600, 300)))
    variable.assign_add(tf.ones((600, 300)))
    np.testing.assert_array_equal(variable, np.full((600, 300), 2))
    assert not np.any(layer.kernel)

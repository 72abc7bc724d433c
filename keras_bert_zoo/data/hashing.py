"""Random numbers from hashes: they depend on numbers such as a seed, an epoch and a place alone."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["mixed", "uniform"]


def mixed(x: tf.Tensor) -> tf.Tensor:
    """uint64 -> uint64. A step of SplitMix64 (Steele, Lea and Flood 2014), used as a hash."""
    x += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, np.uint64(shift)))
        x *= np.uint64(factor)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, np.uint64(31)))


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """uint64 -> float64 in [0, 1)."""
    return tf.cast(tf.bitwise.right_shift(bits, np.uint64(11)), tf.float64) * 2.0**-53

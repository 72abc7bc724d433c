"""Checkpoints of Google's TensorFlow 1 code."""

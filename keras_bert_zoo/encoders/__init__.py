"""Encoders: one functional Keras model per family."""

"""Presets: a catalogue of checkpoints, and loading from a directory."""

from keras_bert_zoo.presets.io import load_encoder, load_tokenizer

__all__ = ["load_encoder", "load_tokenizer"]

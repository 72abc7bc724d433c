"""Converts a checkpoint between formats."""

from keras_bert_zoo.presets.convert.compare import difference, largest
from keras_bert_zoo.presets.convert.conversion import (
    FORMATS,
    Conversion,
    convert_checkpoint,
    describe,
)

__all__ = ["FORMATS", "Conversion", "convert_checkpoint", "describe", "difference", "largest"]

"""Earlier names of `presets.load.load` and `presets.save.save`."""

from keras_bert_zoo.presets.load import load as load_headed
from keras_bert_zoo.presets.save import save as save_headed

__all__ = ["load_headed", "save_headed"]

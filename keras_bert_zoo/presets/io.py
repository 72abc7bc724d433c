"""Earlier names of `presets.resolve`, `presets.encoder_files` and `presets.catalog`."""

from keras_bert_zoo.presets.catalog import installed_directory as installed_directory
from keras_bert_zoo.presets.encoder_files import load_encoder as load_encoder
from keras_bert_zoo.presets.resolve import LABEL_KEYS as LABEL_KEYS
from keras_bert_zoo.presets.resolve import find_preset as find_preset
from keras_bert_zoo.presets.resolve import load_tokenizer as load_tokenizer
from keras_bert_zoo.presets.resolve import other_keys as other_keys

"""Keras layers from which the encoders are built.

Legend of dimensions, used in every shape comment: B batch, S padded length, T tokens in the
batch (one row per token, whatever the layout), H hidden_dim, I intermediate_dim, N num_heads,
D head size, n rows in an attention group, s padded length of that group.
"""

import keras

from keras_bert_zoo.errors import ConfigError

if keras.backend.backend() != "tensorflow":
    raise ConfigError(
        f"Expected the Keras backend 'tensorflow', received {keras.backend.backend()!r}; set the "
        'environment variable KERAS_BACKEND to "tensorflow" before you import Keras.'
    )

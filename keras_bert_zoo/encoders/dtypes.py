"""The check of Keras dtype policies."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import show


def check_dtype(dtype: Any) -> None:
    """Checks that `dtype` is a Keras dtype policy in which models train.

    Raises:
        ConfigError: it is not.
    """
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            'Expected `dtype` to be a Keras dtype policy such as "float32" or "mixed_bfloat16", '
            f"received {show(dtype)}."
        ) from None
    # 16-bit weights lose the small updates of fine-tuning.
    if policy.variable_dtype in ("float16", "bfloat16"):
        raise ConfigError(
            f"Expected a `dtype` in which models can train, received {policy.name!r}. Pass "
            '"mixed_bfloat16" or "mixed_float16", which compute in 16 bits on float32 weights, or '
            '"float32".'
        )

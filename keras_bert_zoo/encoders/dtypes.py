"""The check of Keras dtype policies."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.config_values import short
from keras_bert_zoo.errors import ConfigError


def check_dtype(dtype: Any) -> None:
    """Refuses what is no dtype policy of Keras.

    Raises:
        ConfigError: it is none.
    """
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            '`dtype` must be a dtype policy of Keras, such as "float32" or "mixed_bfloat16", '
            f"received {short(dtype)}."
        ) from None
    # Updates of fine-tuning are lost in 16-bit weights, and masks in float16, which ends at 65504.
    if "float16" in (policy.variable_dtype, policy.compute_dtype) or (
        policy.variable_dtype == "bfloat16"
    ):
        raise ConfigError(
            f"`dtype` {policy.name!r} is not supported: models do not train in it. Pass "
            '"mixed_bfloat16", which computes in bfloat16 on float32 weights, or "float32".'
        )

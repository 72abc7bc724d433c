"""The activation from a classifier's logits to its scores.

A model with one label has the activation that the files of a cross-encoder name; otherwise none for
the `problem_type` "regression"; otherwise the sigmoid. A model with several labels has the sigmoid
if the files name it or a text may have several labels; otherwise the softmax. (If the files of a
cross-encoder name the identity, `CrossEncoder` returns logits. This package returns the softmax,
like transformers' pipeline.)

Source: sentence-transformers 6.2, `CrossEncoder.get_default_activation_fn`; transformers 5.24,
`TextClassificationPipeline.postprocess`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.schema import NULL, TEXT, Schema, check, read_object

_logger = logging.getLogger(__name__)

SENTENCE_FILE = "config_sentence_transformers.json"
"""sentence-transformers' file with the options of the whole model."""
NESTED_KEY, OLD_KEY = "sentence_transformers", "sbert_ce_default_activation_function"
"""Keys of config.json: an object with `activation_fn` (version 4), and the key before it."""

_NAMED = "torch.nn.modules."
# torch's class -> the name in `layers.activations`.
_ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Identity": "linear",
    "Softmax": "softmax",
    "Tanh": "tanh",
    "ReLU": "relu",
}
REGRESSOR_ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu")
"""Activations of a model with one label."""
CLASSIFIER_ACTIVATIONS = ("softmax", "sigmoid")
"""Activations of a model with several labels."""
_SCHEMA: Schema = {"activation_fn": TEXT | NULL, "model_type": TEXT | NULL}


def is_cross_encoder(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory is a cross-encoder of sentence-transformers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, SENTENCE_FILE).write_text('{"model_type": "CrossEncoder"}')
    ...     is_cross_encoder(folder)
    True
    """
    return _sentence_config(Path(directory)).get("model_type") == "CrossEncoder"


def saved_activation(
    directory: str | os.PathLike[str],
    raw: Mapping[str, Any],
    *,
    count: int,
    ignore: Collection[str] = (),
) -> str:
    """Returns the activation of a saved model.

    Args:
        directory: path; "": there is only a config.json.
        raw: contents of config.json.
        count: int. Labels.
        ignore: keys of config.json to ignore.

    Returns:
        str, one of `REGRESSOR_ACTIVATIONS` for one label, otherwise of `CLASSIFIER_ACTIVATIONS`.

    Raises:
        ConfigError: the files name an activation that is not supported.

    >>> saved_activation("", {}, count=1), saved_activation("", {}, count=3)
    ('sigmoid', 'softmax')
    """
    config = {key: value for key, value in raw.items() if key not in ignore}
    path, name = _named(Path(directory) if directory else None, config)
    supported = REGRESSOR_ACTIVATIONS if count == 1 else CLASSIFIER_ACTIVATIONS
    default = "softmax"
    if count == 1:
        default = "linear" if config.get("problem_type") == "regression" else "sigmoid"
    if name is None:
        return default
    if not name.startswith("torch."):
        warn_once(
            _logger,
            f"{path} names the activation {name!r:.120}. Its code is not run: scores use "
            f"{default}, as in sentence-transformers without `trust_remote_code`.",
        )
        return default
    activation = _ACTIVATIONS.get(name.rsplit(".", 1)[-1])
    if count > 1 and activation == "linear":
        return default
    if activation is None or activation not in supported:
        names = [torch_name for torch_name, ours in _ACTIVATIONS.items() if ours in supported]
        raise ConfigError(
            f"{path}: expected the activation of a model with {count} label{'s' * (count > 1)} to "
            f"be one of {', '.join(names)} of torch.nn, received {name!r:.120}. To load the model "
            "without it, pass its key in `ignore_config_keys`."
        )
    return activation


def saved_keys(activation: str, raw: Mapping[str, Any], *, count: int) -> dict[str, Any]:
    """Returns the keys of config.json that name an activation.

    Args:
        activation: str.
        raw: the source's config.json without ignored keys; {} for a new model.
        count: int. Labels.

    Returns:
        dict: the keys of the source, with the activation if they would be read as another one.

    >>> saved_keys("sigmoid", {}, count=1)
    {}
    >>> saved_keys("linear", {}, count=1)
    {'sentence_transformers': {'activation_fn': 'torch.nn.modules.linear.Identity'}}
    """
    keys = {key: raw[key] for key in (NESTED_KEY, OLD_KEY) if key in raw}
    config = keys | {"problem_type": raw.get("problem_type")}
    if saved_activation("", config, count=count) != activation:
        name = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == activation)
        module = "linear" if name == "Identity" else "activation"
        nested = keys.get(NESTED_KEY)
        keys[NESTED_KEY] = (nested if isinstance(nested, dict) else {}) | {
            "activation_fn": f"{_NAMED}{module}.{name}"
        }
    return keys


def _named(directory: Path | None, raw: Mapping[str, Any]) -> tuple[str, str | None]:
    """The file that names an activation, and the name, such as a class of torch; or None."""
    directory, whole = directory or Path(), _sentence_config(directory) if directory else {}
    if whole.get("activation_fn") is not None:
        return str(directory / SENTENCE_FILE), whole["activation_fn"]
    path = str(directory / "config.json")
    nested = raw.get(NESTED_KEY)
    if isinstance(nested, Mapping) and "activation_fn" in nested:
        check(nested, _SCHEMA, f"{path}, {NESTED_KEY}")
        return path, nested["activation_fn"]
    old = raw.get(OLD_KEY)
    check({OLD_KEY: old}, {OLD_KEY: TEXT | NULL}, path)
    return path, old


def _sentence_config(directory: Path) -> dict[str, Any]:
    path = directory / SENTENCE_FILE
    return read_object(path, _SCHEMA) if path.exists() else {}

"""What makes scores of a classifier's logits, as sentence-transformers and transformers decide it.

A model with one label: the activation that a cross-encoder's files name; else none for a
`problem_type` of regression; else the sigmoid. A model with several: the sigmoid where it is named
or a text may have several labels, and else the softmax. (Where a cross-encoder's files name the
identity, `CrossEncoder` gives logits; transformers' pipeline gives the softmax, as it is here.)

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
"""Where sentence-transformers writes what is of the whole model."""
NESTED_KEY, OLD_KEY = "sentence_transformers", "sbert_ce_default_activation_function"
"""Keys of config.json: an object with `activation_fn` (version 4), and its forerunner."""

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
"""Of a model with one label."""
CLASSIFIER_ACTIVATIONS = ("softmax", "sigmoid")
"""Of a model with several labels."""
_SCHEMA: Schema = {"activation_fn": TEXT | NULL, "model_type": TEXT | NULL}


def is_cross_encoder(directory: str | os.PathLike[str]) -> bool:
    """Whether sentence-transformers wrote a directory as a cross-encoder.

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
    """The activation that makes scores of a saved model's logits.

    Args:
        directory: path; "" for a config.json alone.
        raw: its config.json.
        count: int. Labels.
        ignore: keys of config.json that are not to be read.

    Returns:
        str: of `REGRESSOR_ACTIVATIONS` for one label, else of `CLASSIFIER_ACTIVATIONS`.

    Raises:
        ConfigError: the files name one that is not supported.

    >>> saved_activation("", {}, count=1), saved_activation("", {}, count=3)
    ('sigmoid', 'softmax')
    """
    said = {key: value for key, value in raw.items() if key not in ignore}
    path, named = _named(Path(directory) if directory else None, said)
    known = REGRESSOR_ACTIVATIONS if count == 1 else CLASSIFIER_ACTIVATIONS
    usual = "softmax"
    if count == 1:
        usual = "linear" if said.get("problem_type") == "regression" else "sigmoid"
    if named is None:
        return usual
    if not named.startswith("torch."):
        warn_once(
            _logger,
            f"{path} names the activation {named!r:.120}, code of its own, which is not run: the "
            f"scores are those of {usual}, as sentence-transformers' are without trust.",
        )
        return usual
    found = _ACTIVATIONS.get(named.rsplit(".", 1)[-1])
    if count > 1 and found == "linear":
        return usual
    if found is None or found not in known:
        names = [name for name, ours in _ACTIVATIONS.items() if ours in known]
        raise ConfigError(
            f"{path} names the activation {named!r:.120}, which is not supported for {count} "
            f"label{'s' * (count > 1)}; expected one of {', '.join(names)} of torch.nn. To do "
            "without it, name its key in `ignore_config_keys`."
        )
    return found


def saved_keys(activation: str, raw: Mapping[str, Any], *, count: int) -> dict[str, Any]:
    """The keys of a config.json by which an activation is found again.

    Args:
        activation: str.
        raw: what was read of the model's config.json, without ignored keys; {} of a new model.
            `problem_type` counts.
        count: int. Labels.

    Returns:
        dict: the keys as they were, with the activation where they would be read as another one.

    >>> saved_keys("sigmoid", {}, count=1)
    {}
    >>> saved_keys("linear", {}, count=1)
    {'sentence_transformers': {'activation_fn': 'torch.nn.modules.linear.Identity'}}
    """
    kept = {key: raw[key] for key in (NESTED_KEY, OLD_KEY) if key in raw}
    said = kept | {"problem_type": raw.get("problem_type")}
    if saved_activation("", said, count=count) != activation:
        name = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == activation)
        module = "linear" if name == "Identity" else "activation"
        nested = kept.get(NESTED_KEY)
        kept[NESTED_KEY] = (nested if isinstance(nested, dict) else {}) | {
            "activation_fn": f"{_NAMED}{module}.{name}"
        }
    return kept


def _named(directory: Path | None, raw: Mapping[str, Any]) -> tuple[str, str | None]:
    """The file that names an activation, and torch's name for it."""
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

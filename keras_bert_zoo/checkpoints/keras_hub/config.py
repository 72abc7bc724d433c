"""A KerasHub preset's JSON files, checked and translated into a Hugging Face config.json."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.checkpoints.file_names import CONFIG_FILE
from keras_bert_zoo.checkpoints.keras_hub.layout import Family, Head, layer_sizes
from keras_bert_zoo.checkpoints.keras_hub.names import FAMILIES, UNSUPPORTED
from keras_bert_zoo.checkpoints.keras_hub.tokenizers import find_pad_token_id
from keras_bert_zoo.checkpoints.messages import list_some, show_name
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import read_json

TASK_FILE = "task.json"
METADATA_FILE = "metadata.json"
OUR_METADATA = "keras_bert_zoo"
"""Key in metadata.json under which the names of labels, which KerasHub cannot hold, are kept."""

# What a file may claim, lest reading its claims takes the memory; far above any model.
_SIZE_LIMIT = 2**31 - 1
_LAYER_LIMIT = 1_000
_COUNTS = ("num_layers", "num_groups", "num_inner_repetitions")
_LABEL_LIMIT = 1_000_000

_PACKAGES = ("keras_hub", "keras_nlp")
_SERIALIZED = frozenset(
    "module class_name config registered_name build_config compile_config assets weights".split()
)
_COMMON = frozenset({"name", "trainable", "dtype"})
_DTYPES = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")
_KINDS = {
    "TextClassifier": "TextClassifier",
    "Classifier": "TextClassifier",  # its name up to keras-nlp 0.14
    "MaskedLM": "MaskedLM",
    "TextEmbedder": "TextEmbedder",
}
# What a classifier may do to its logits, and the `problem_type` that answers alike.
_PROBLEMS = {
    None: None,
    "linear": None,
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
}


@dataclasses.dataclass(frozen=True)
class KerasHubPreset:
    """What a preset's JSON files say, checked.

    Args:
        directory: path.
        family: Family.
        config: KerasHub's own options.
        head: Head or None. The head that is read.
        head_config: the task's own options; empty without a head.
        left_out: what the preset holds and a Hugging Face checkpoint cannot, a clause each.
        pad_token_id: int or None. As the preset's vocabulary has it.
    """

    directory: Path
    family: Family
    config: Mapping[str, Any]
    head: Head | None
    head_config: Mapping[str, Any]
    left_out: tuple[str, ...]
    pad_token_id: int | None

    @property
    def first_position(self) -> int:
        """Rows of Hugging Face's position table before the first position."""
        if self.family.position_offset is None:
            return 0
        return self.family.position_offset + (1 if self.pad_token_id is None else self.pad_token_id)


def read_keras_hub_config(
    directory: str | os.PathLike[str], *, head: bool | None = None
) -> dict[str, Any]:
    """Reads a preset's configuration as the contents of a Hugging Face config.json.

    Args:
        directory: path of a preset.
        head: bool or None. False: the bare encoder. None: with the task's head where Hugging Face
            can express it, otherwise the bare encoder with a warning that says why. True: with
            the head, or an error.

    Returns:
        dict.

    Raises:
        CheckpointError: no such preset, or `head=True` and the head cannot be expressed.
        ConfigError: the preset asks for something unsupported, by name.
    """
    preset = read_preset(directory, head=head)
    family, config = preset.family, preset.config
    architecture = preset.head.architecture if preset.head else family.model
    translated: dict[str, Any] = {
        "model_type": family.model_type,
        "architectures": [architecture],
    }
    for theirs, names in family.config.items():
        translated |= dict.fromkeys(names, config[theirs])
    translated |= {
        key: values[0] for key, values in family.fixed.items() if values[0] not in (None, {})
    }
    for key in ("is_decoder", "is_encoder_decoder", "add_cross_attention"):
        translated.pop(key, None)
    if preset.pad_token_id is not None:
        translated["pad_token_id"] = preset.pad_token_id
    elif family.position_offset is not None:
        translated["pad_token_id"] = 1
    if preset.first_position:
        translated["max_position_embeddings"] += preset.first_position
    dtype = _dtype_name(config.get("dtype"))
    if dtype in ("float16", "bfloat16"):
        translated["dtype"] = dtype
    if preset.head:
        translated |= _head_config(preset, preset.head)
    return translated


def read_preset(directory: str | os.PathLike[str], *, head: bool | None = None) -> KerasHubPreset:
    """Reads and checks a preset's JSON files.

    Args:
        directory: path of a preset.
        head: see `read_keras_hub_config`.

    Returns:
        KerasHubPreset.

    Raises:
        CheckpointError: no such preset, or `head=True` and the head cannot be expressed.
        ConfigError: the preset asks for something unsupported, by name.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{str(directory)!r} is not a directory.")
    path = directory / CONFIG_FILE
    serialized = read_json(path)
    name = _class_name(serialized, path)
    if name not in FAMILIES:
        reason = f": {UNSUPPORTED[name]}" if name in UNSUPPORTED else ""
        raise ConfigError(
            f"{path} is of KerasHub's {name}, which is not supported{reason}. Expected one of: "
            f"{', '.join(sorted(FAMILIES))}."
        )
    family = FAMILIES[name]
    config = _check_config(family, serialized["config"], path)
    left_out: list[str] = []
    found: Head | None = None
    head_config: dict[str, Any] = {}
    if head is not False and (directory / TASK_FILE).is_file():
        found, head_config, reason = _read_task(directory, family, config)
        if reason:
            left_out.append(reason)
    if head and not found:
        reason = left_out[0] if left_out else f"there is no {TASK_FILE}"
        raise CheckpointError(
            f"The head of {str(directory)!r} cannot be read: {reason}. Pass `head=False` to read "
            "the encoder alone."
        )
    pad_token_id = find_pad_token_id(directory)
    vocabulary_size = layer_sizes(family, config)["vocabulary"]
    # Its position table has rows before the first, up to that id.
    if pad_token_id is not None and pad_token_id >= vocabulary_size:
        raise ConfigError(
            f"The vocabulary in {str(directory)!r} has the padding token at {pad_token_id}, beyond "
            f"the {vocabulary_size} tokens of {path.name}."
        )
    return KerasHubPreset(
        directory=directory,
        family=family,
        config=config,
        head=found,
        head_config=head_config,
        left_out=tuple(left_out),
        pad_token_id=pad_token_id,
    )


def _class_name(serialized: Mapping[str, Any], path: Path) -> str:
    """Returns the class that a serialized object says it is of, without its package."""
    unknown = sorted(set(serialized) - _SERIALIZED)
    if unknown or not isinstance(serialized.get("config"), dict):
        what = f"the unknown keys {list_some(unknown)[:300]!a}" if unknown else "no `config`"
        raise ConfigError(f"{path} is not a serialized KerasHub object: it has {what}.")
    registered = serialized.get("registered_name")
    package, _, name = str(registered).partition(">")
    if package not in _PACKAGES or not name or serialized.get("class_name") != name:
        raise ConfigError(
            f"{path} is of {registered!r:.80} (class {serialized.get('class_name')!r:.80}). "
            "Expected keras_hub>NAME or keras_nlp>NAME, of the class NAME."
        )
    return name


def _check_config(family: Family, config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns a backbone's options, or raises ConfigError with all that is wrong."""
    problems = [
        f"`{show_name(key)}` = {value!r:.80} is unknown"
        for key, value in config.items()
        if key not in family.config and key not in _COMMON
    ]
    problems += [f"`{key}` is missing" for key in family.config if key not in config]
    for key in family.config:
        value = config.get(key)
        if key == "dropout":
            if not _is_rate(value):
                problems.append(f"`{key}` must be a number in [0, 1), got {value!r:.80}")
        elif key in config and not is_size(key, value):
            problems.append(
                f"`{key}` must be a positive integer up to {_limit(key):,}, got {value!r:.80}"
            )
    if _dtype_name(config.get("dtype")) not in (None, *_DTYPES):
        problems.append(
            f"`dtype` = {config['dtype']!r:.200} is not supported (expected one of: "
            f"{', '.join(_DTYPES)}; quantized presets are not read)"
        )
    if not problems:
        problems += mismatched_counts(config)
    if problems:
        raise ConfigError(
            f"{path} asks for something that {family.backbone} here does not do: "
            + "; ".join(problems)
            + "."
        )
    return dict(config)


def mismatched_counts(config: Mapping[str, Any]) -> list[str]:
    """Says which of a backbone's sizes do not go together, a clause each."""
    problems = [
        f"`{part}` must divide `{whole}`"
        for part, whole in (("num_heads", "hidden_dim"), ("num_groups", "num_layers"))
        if part in config and config[whole] % config[part]
    ]
    if config.get("num_groups", 1) * config.get("num_inner_repetitions", 1) > _LAYER_LIMIT:
        problems.append(f"`num_groups` x `num_inner_repetitions` must be up to {_LAYER_LIMIT:,}")
    return problems


def is_size(key: str, value: Any) -> bool:
    """Whether a value is one that a size or a count of a backbone can have."""
    return _is_size(value, _limit(key))


def _limit(key: str) -> int:
    return _LAYER_LIMIT if key in _COUNTS else _SIZE_LIMIT


def _dtype_name(dtype: Any) -> Any:
    """Returns the name of a dtype policy as Keras serializes it."""
    if isinstance(dtype, Mapping) and dtype.get("class_name") == "DTypePolicy":
        options = dtype.get("config")
        return options.get("name") if isinstance(options, Mapping) else dtype
    return dtype


def _is_size(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _read_task(
    directory: Path, family: Family, config: Mapping[str, Any]
) -> tuple[Head | None, dict[str, Any], str]:
    """Returns the head and its options, or neither and why it is left out."""
    path = directory / TASK_FILE
    serialized = read_json(path)
    name = _class_name(serialized, path)
    kind = _KINDS.get(name.removeprefix(family.name)) if name.startswith(family.name) else None
    if kind is None:
        raise ConfigError(f"{path} is of {name}, which is no task of {family.backbone}.")
    options = dict(serialized["config"])
    backbone = options.pop("backbone", None)
    if not isinstance(backbone, dict) or not isinstance(backbone.get("config"), dict):
        raise ConfigError(f"{path} has no `backbone`.")
    other = [
        key for key in family.config if backbone["config"].get(key, config[key]) != config[key]
    ]
    if _class_name(backbone, path) != family.backbone or other:
        raise ConfigError(
            f"{path} and {CONFIG_FILE} describe different encoders"
            + (f" (`{other[0]}`)." if other else ".")
        )
    if kind == "TextEmbedder":
        rest = {key: options.get(key) for key in ("pooling_mode", "normalize")}
        return None, {}, f"{name}'s pooling ({rest}), which a config.json has no keys for"
    if kind in family.refused:
        return None, {}, f"{name}'s head: {family.refused[kind]}"
    head = family.heads.get(kind)
    if head is None:
        raise ConfigError(f"{path} is of {name}, which KerasHub 0.32 does not have.")
    problems = _task_problems(kind, family, config, options)
    if problems:
        raise ConfigError(f"{path} asks for something unsupported: {'; '.join(problems)}.")
    if not any((directory / f"task.weights.{end}").is_file() for end in ("h5", "json")):
        return None, {}, f"{name}'s head, which the preset has no weights of"
    return head, options, ""


def _task_problems(
    kind: str, family: Family, config: Mapping[str, Any], options: Mapping[str, Any]
) -> list[str]:
    known = _COMMON | {"preprocessor"}
    if kind == "TextClassifier":
        known |= {"num_classes", "activation", "dropout", "hidden_dim"}
    problems = [f"`{show_name(key)}` is unknown" for key in options if key not in known]
    if kind != "TextClassifier":
        return problems
    count = options.get("num_classes")
    if not _is_size(count, _LABEL_LIMIT):
        problems.append(
            f"`num_classes` must be a positive integer up to {_LABEL_LIMIT:,}, got {count!r:.80}"
        )
    activation = options.get("activation")
    if not (activation is None or isinstance(activation, str)) or activation not in _PROBLEMS:
        problems.append(f"`activation` = {activation!r:.200} (expected linear, softmax or sigmoid)")
    if not _is_rate(options.get("dropout")):
        problems.append(f"`dropout` must be a number in [0, 1), got {options.get('dropout')!r:.80}")
    elif family.model_type == "fnet" and options["dropout"] != config["dropout"]:
        problems.append("`dropout` must be the encoder's: FNetForSequenceClassification has none")
    if options.get("hidden_dim") not in (None, config["hidden_dim"]):
        problems.append(
            f"`hidden_dim` = {options['hidden_dim']!r}: Hugging Face's head is as wide as the "
            f"encoder ({config['hidden_dim']})"
        )
    return problems


def _head_config(preset: KerasHubPreset, head: Head) -> dict[str, Any]:
    """Returns what config.json says about a head."""
    options = preset.head_config
    translated: dict[str, Any] = {theirs: options[ours] for ours, theirs in head.config.items()} | {
        key: values[0] for key, values in head.fixed.items()
    }
    if preset.family.model_type == "deberta-v2":
        translated["cls_dropout"] = preset.config["dropout"]
        translated["pooler_hidden_size"] = preset.config["hidden_dim"]
    if "num_classes" not in options:
        return translated
    problem = _PROBLEMS[options.get("activation")]
    labels = [f"LABEL_{i}" for i in range(options["num_classes"])]
    metadata = preset.directory / METADATA_FILE
    noted = read_json(metadata).get(OUR_METADATA) if metadata.is_file() else None
    if isinstance(noted, Mapping):
        named = noted.get("labels")
        if isinstance(named, list) and len(named) == len(labels) == len(set(map(str, named))):
            labels = [str(label) for label in named]
        if noted.get("problem_type") in (*_PROBLEMS.values(), "regression"):
            problem = problem or noted.get("problem_type")
    if problem:
        translated["problem_type"] = problem
    translated["id2label"] = {str(i): label for i, label in enumerate(labels)}
    translated["label2id"] = {label: i for i, label in enumerate(labels)}
    return translated

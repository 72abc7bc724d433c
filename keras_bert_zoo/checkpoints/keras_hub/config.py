"""Translates the JSON files of a KerasHub preset into a Hugging Face config.json."""

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
"""Key of the label names in metadata.json. KerasHub itself has no place for them."""

# Limits of sizes in a file. Larger values would exhaust the memory, and no model has them.
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
# Activation of a classifier -> the equivalent `problem_type`.
_PROBLEMS = {
    None: None,
    "linear": None,
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
}


@dataclasses.dataclass(frozen=True)
class KerasHubPreset:
    """The checked contents of a preset's JSON files.

    Args:
        directory: path.
        family: Family.
        config: KerasHub's options of the backbone.
        head: Head or None. The head that is read.
        head_config: KerasHub's options of the task. Empty without a head.
        left_out: parts of the preset that Hugging Face does not support, one clause each.
        pad_token_id: int or None. The id in the preset's vocabulary.
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
        """The number of unused rows at the start of Hugging Face's position table."""
        if self.family.position_offset is None:
            return 0
        return self.family.position_offset + (1 if self.pad_token_id is None else self.pad_token_id)


def read_keras_hub_config(
    directory: str | os.PathLike[str], *, head: bool | None = None
) -> dict[str, Any]:
    """Reads the configuration of a preset as the contents of a Hugging Face config.json.

    Args:
        directory: path of a preset.
        head: bool or None. Whether to include the task's head. None: includes it if Hugging Face
            supports it; otherwise logs a warning. True: raises an error if it is not supported.

    Returns:
        dict.

    Raises:
        CheckpointError: the preset is missing, or `head=True` and the head is not supported.
        ConfigError: some options of the preset are not supported. The message lists them.
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
        CheckpointError: the preset is missing, or `head=True` and the head is not supported.
        ConfigError: some options of the preset are not supported. The message lists them.
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
            f"{path}: KerasHub's {name} is not supported{reason}. Expected one of: "
            f"{', '.join(sorted(FAMILIES))}."
        )
    family = FAMILIES[name]
    config = _check_config(family, serialized["config"], path)
    left_out: list[str] = []
    task_head: Head | None = None
    head_config: dict[str, Any] = {}
    if head is not False and (directory / TASK_FILE).is_file():
        task_head, head_config, reason = _read_task(directory, family, config)
        if reason:
            left_out.append(reason)
    if head and not task_head:
        reason = left_out[0] if left_out else f"there is no {TASK_FILE}"
        raise CheckpointError(
            f"The head of {str(directory)!r} cannot be read: {reason}. Pass `head=False` to read "
            "only the encoder."
        )
    pad_token_id = find_pad_token_id(directory)
    vocabulary_size = layer_sizes(family, config)["vocabulary"]
    # The number of unused rows in the position table depends on the id, so it must be small.
    if pad_token_id is not None and pad_token_id >= vocabulary_size:
        raise ConfigError(
            f"Expected a padding token id below {vocabulary_size}, the vocabulary size of "
            f"{path.name}, received {pad_token_id} from the vocabulary in {str(directory)!r}."
        )
    return KerasHubPreset(
        directory=directory,
        family=family,
        config=config,
        head=task_head,
        head_config=head_config,
        left_out=tuple(left_out),
        pad_token_id=pad_token_id,
    )


def _class_name(serialized: Mapping[str, Any], path: Path) -> str:
    """Returns the class name of a serialized object, without its package."""
    unknown = sorted(set(serialized) - _SERIALIZED)
    if unknown or not isinstance(serialized.get("config"), dict):
        problem = f"the unknown keys {list_some(unknown)[:300]!a}" if unknown else "no `config`"
        raise ConfigError(f"{path} is not a serialized KerasHub object: it has {problem}.")
    registered = serialized.get("registered_name")
    package, _, name = str(registered).partition(">")
    if package not in _PACKAGES or not name or serialized.get("class_name") != name:
        raise ConfigError(
            f"{path}: expected keras_hub>NAME or keras_nlp>NAME with the class NAME, received "
            f"{registered!r:.80} with the class {serialized.get('class_name')!r:.80}."
        )
    return name


def _check_config(family: Family, config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns a backbone's options, or raises a ConfigError that lists all problems."""
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
                problems.append(f"`{key}` must be a number in [0, 1), received {value!r:.80}")
        elif key in config and not is_size(key, value):
            problems.append(
                f"`{key}` must be an integer of 1 to {_limit(key):,}, received {value!r:.80}"
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
            f"{path}: {family.backbone} does not support these options: {'; '.join(problems)}."
        )
    return dict(config)


def mismatched_counts(config: Mapping[str, Any]) -> list[str]:
    """Returns the contradictions between a backbone's sizes, one clause each."""
    problems = [
        f"`{part}` must divide `{whole}`"
        for part, whole in (("num_heads", "hidden_dim"), ("num_groups", "num_layers"))
        if part in config and config[whole] % config[part]
    ]
    if config.get("num_groups", 1) * config.get("num_inner_repetitions", 1) > _LAYER_LIMIT:
        problems.append(f"`num_groups` x `num_inner_repetitions` must be <= {_LAYER_LIMIT:,}")
    return problems


def is_size(key: str, value: Any) -> bool:
    """Whether a value is valid for a size or a count of a backbone."""
    return _is_size(value, _limit(key))


def _limit(key: str) -> int:
    return _LAYER_LIMIT if key in _COUNTS else _SIZE_LIMIT


def _dtype_name(dtype: Any) -> Any:
    """Returns the name of a serialized dtype policy."""
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
    """Returns the head and its options, or None and the reason why it is left out."""
    path = directory / TASK_FILE
    serialized = read_json(path)
    name = _class_name(serialized, path)
    kind = _KINDS.get(name.removeprefix(family.name)) if name.startswith(family.name) else None
    if kind is None:
        raise ConfigError(f"{path}: expected a task of {family.backbone}, received {name}.")
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
        return None, {}, f"{name}'s pooling ({rest}), because config.json has no keys for it"
    if kind in family.refused:
        return None, {}, f"{name}'s head: {family.refused[kind]}"
    head = family.heads.get(kind)
    if head is None:
        raise ConfigError(f"{path}: KerasHub 0.32 does not have {name}.")
    problems = _task_problems(kind, family, config, options)
    if problems:
        raise ConfigError(f"{path} has unsupported options: {'; '.join(problems)}.")
    if not any((directory / f"task.weights.{end}").is_file() for end in ("h5", "json")):
        return None, {}, f"{name}'s head, because the preset has no weights for it"
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
            f"`num_classes` must be an integer of 1 to {_LABEL_LIMIT:,}, received {count!r:.80}"
        )
    activation = options.get("activation")
    if not (activation is None or isinstance(activation, str)) or activation not in _PROBLEMS:
        problems.append(f"`activation` = {activation!r:.200} (expected linear, softmax or sigmoid)")
    rate = options.get("dropout")
    if not _is_rate(rate):
        problems.append(f"`dropout` must be a number in [0, 1), received {rate!r:.80}")
    elif family.model_type == "fnet" and rate != config["dropout"]:
        problems.append("`dropout` must be the encoder's, as in FNetForSequenceClassification")
    if options.get("hidden_dim") not in (None, config["hidden_dim"]):
        problems.append(
            f"`hidden_dim` = {options['hidden_dim']!r} (expected {config['hidden_dim']}, the "
            "encoder's, as in Hugging Face's head)"
        )
    return problems


def _head_config(preset: KerasHubPreset, head: Head) -> dict[str, Any]:
    """Returns the keys of config.json for a head."""
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
    saved = read_json(metadata).get(OUR_METADATA) if metadata.is_file() else None
    if isinstance(saved, Mapping):
        names = saved.get("labels")
        if isinstance(names, list) and len(names) == len(labels) == len(set(map(str, names))):
            labels = [str(name) for name in names]
        if saved.get("problem_type") in (*_PROBLEMS.values(), "regression"):
            problem = problem or saved.get("problem_type")
    if problem:
        translated["problem_type"] = problem
    translated["id2label"] = {str(i): label for i, label in enumerate(labels)}
    translated["label2id"] = {label: i for i, label in enumerate(labels)}
    return translated

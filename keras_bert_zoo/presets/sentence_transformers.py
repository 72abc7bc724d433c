"""Reads and writes the files of sentence-transformers: the modules of a model."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.checkpoints.assign import assign_tensors, write_tensors
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import (
    JSON_LIMIT_BYTES,
    parse_json_value,
    read_json,
    read_small_file,
    write_json,
)
from keras_bert_zoo.heads.embedder import POOLINGS, EmbeddingHead
from keras_bert_zoo.presets.score_activation import SENTENCE_FILE
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    TEXT,
    Schema,
    ValueType,
    folder_inside,
    integer,
    list_of,
    names_to,
    read_object,
)
from keras_bert_zoo.validation import is_integer, show

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer

MODULES_FILE = "modules.json"
# The names that sentence-transformers reads, in its order; it writes the first.
_LENGTH_FILES = [
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
_MODULES_LIMIT = 100

# Classes of sentence-transformers. Their modules differ between its versions.
_SUPPORTED = ("Transformer", "WeightedLayerPooling", "Pooling", "Dense", "Normalize")
_TYPES = "sentence_transformers.models."  # the module that every version accepts

# torch's classes -> the names in `layers.activations`.
_ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "linear",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_LEGACY_MODES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def _at_least(least: int) -> ValueType:
    return ValueType(f"an integer of at least {least}", lambda v: is_integer(v) and v >= least)


_SIZE_LIMIT = 1_000_000
# Unsupported names and modes are rejected where they are used.
_POOLING_SCHEMA: Schema = {
    "pooling_mode": TEXT | list_of(TEXT) | NULL,
    "include_prompt": FLAG | NULL,
    **dict.fromkeys(_LEGACY_MODES.values(), FLAG | NULL),
}
_NAMES_SCHEMA: Schema = {"module_input_name": TEXT | NULL, "module_output_name": TEXT | NULL}
_LAYERS_SCHEMA: Schema = {"layer_start": integer(0, _SIZE_LIMIT)}
_DENSE_SCHEMA: Schema = {
    **_NAMES_SCHEMA,
    "out_features": integer(1, _SIZE_LIMIT),
    "bias": FLAG | NULL,
    "use_residual": FLAG | NULL,
    "activation_function": TEXT,
}
_MODEL_SCHEMA: Schema = {
    "prompts": names_to(TEXT, 10_000) | NULL,
    "default_prompt_name": TEXT | NULL,
    "similarity_fn_name": TEXT | NULL,
    "truncate_dim": _at_least(1) | NULL,
}
_LENGTH_SCHEMA: Schema = {"do_lower_case": FLAG | NULL, "max_seq_length": _at_least(3) | NULL}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
"""The similarity functions of sentence-transformers."""


@dataclass(frozen=True)
class SentenceModules:
    """The modules of a sentence-transformers directory, besides the encoder.

    Attributes:
        encoder: str. The encoder's folder inside the directory; "" is the directory itself.
        head: dict. Arguments of `EmbeddingHead`.
        folders: layer ("layer_weights", "dense_0", ...) -> folder of its weights.
        max_length: int or None. Tokens.
        prompts: name -> text to put before every input.
        default_prompt: str or None. The name of the default prompt.
        similarity: str of `SIMILARITIES`.
        lowercase: str. The file that sets `do_lower_case`; "" if none does.
    """

    encoder: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"
    lowercase: str = ""


def read_modules(directory: str | os.PathLike[str]) -> SentenceModules | None:
    """Reads the modules of a sentence-transformers directory.

    Args:
        directory: path.

    Returns:
        SentenceModules; None if there is no modules.json.

    Raises:
        ConfigError: a file cannot be read, or has an unsupported setting.
    """
    base = Path(directory)
    path = base / MODULES_FILE
    if not path.exists():
        return None
    data = read_small_file(path, JSON_LIMIT_BYTES)
    try:
        modules = parse_json_value(data, os.fspath(path))
    except ConfigError as error:
        raise ConfigError(f"{str(error).rstrip('.')}; expected one list of modules.") from None
    if not isinstance(modules, list) or not modules:
        given = "an empty one" if modules == [] else type(modules).__name__
        raise ConfigError(f"{path} must hold one list of modules, received {given}.")
    if len(modules) > _MODULES_LIMIT:
        raise ConfigError(
            f"{path} must list at most {_MODULES_LIMIT} modules, received {len(modules):,}."
        )
    read = [_module(path, index, module) for index, module in enumerate(modules)]
    names, folders = ([pair[i] for pair in read] for i in range(2))
    _check_order(path, names)
    head: dict[str, Any] = {"normalize": "Normalize" in names, "dense": []}
    weights = {}
    for name, folder in zip(names, folders, strict=True):
        place = base / folder
        if name == "Pooling":
            head["pooling"] = _pooling(place)
        elif name == "WeightedLayerPooling":
            config = read_object(place / "config.json", _LAYERS_SCHEMA)
            head["layer_start"] = _required(place, config, "layer_start")
            weights["layer_weights"] = folder
        elif name == "Dense":
            weights[f"dense_{len(head['dense'])}"] = folder
            head["dense"].append(_dense(place))
        elif name == "Normalize" and (place / "config.json").exists():
            _check_names(place, read_object(place / "config.json", _NAMES_SCHEMA))
    model_file = base / SENTENCE_FILE
    model = read_object(model_file, _MODEL_SCHEMA) if model_file.exists() else {}
    head["dimensions"] = model.get("truncate_dim")
    prompts, default = model.get("prompts") or {}, model.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ConfigError(
            f"{model_file}: expected `default_prompt_name` to be a name of `prompts`, received "
            f"{show(default)}"
        )
    pooling = read_json(base / folders[names.index("Pooling")] / "config.json")
    if any(prompts.values()) and not pooling.get("include_prompt", True):
        raise ConfigError(
            f"{base} leaves its prompts out of the pooling (`include_prompt` is false), which is "
            "not supported."
        )
    similarity = model.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise ConfigError(
            f"{model_file}: `similarity_fn_name` must be one of "
            f"{', '.join(SIMILARITIES)}, received {show(similarity)}."
        )
    max_length, lowercase = _max_length(base / folders[0])
    return SentenceModules(
        encoder=folders[0],
        head=head,
        folders=weights,
        max_length=max_length,
        prompts=prompts,
        default_prompt=default,
        similarity=similarity,
        lowercase=lowercase,
    )


def load_module_weights(
    directory: str | os.PathLike[str],
    modules: SentenceModules,
    head: EmbeddingHead,
    *,
    allow_pickle: bool = False,
) -> None:
    """Assigns the weights of `Dense` and `WeightedLayerPooling` modules, strictly.

    Args:
        directory: path.
        modules: result of `read_modules`.
        head: EmbeddingHead, built.
        allow_pickle: bool. See `open_checkpoint`.

    Raises:
        CheckpointError: a file is missing or does not fit.
    """
    for layer, folder in modules.folders.items():
        place = Path(directory) / folder
        if not place.is_dir():
            raise CheckpointError(f"{place} is missing: modules.json names it.")
        variables, names = _variables(head, layer)
        with open_checkpoint(place, allow_pickle=allow_pickle) as tensors:
            assign_tensors(tensors, variables, names)


def write_modules(
    directory: Path,
    head: EmbeddingHead,
    *,
    hidden_dim: int,
    num_layers: int,
    max_length: int,
    prompts: Mapping[str, str],
    default_prompt: str | None,
    similarity: str,
) -> None:
    """Writes the modules of a sentence-transformers directory, in the oldest format.

    Args:
        directory: Path of an existing directory, which contains the encoder.
        head: EmbeddingHead, built.
        hidden_dim: int. The encoder's width.
        num_layers: int. The encoder's blocks.
        max_length: int. Tokens.
        prompts: name -> text to put before every input.
        default_prompt: str or None. A name of `prompts`.
        similarity: str of `SIMILARITIES`.

    Raises:
        OSError: a file cannot be written.
    """
    parts: list[tuple[str, dict[str, Any], str]] = []  # class, config, layer with weights
    if head.layer_start is not None:
        config: dict[str, Any] = {
            "word_embedding_dimension": hidden_dim,
            "layer_start": head.layer_start,
            "num_hidden_layers": num_layers,
        }
        parts.append(("WeightedLayerPooling", config, "layer_weights"))
    parts.append(("Pooling", _pooling_config(head, hidden_dim), ""))
    torch_names = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    for index, dense in enumerate(head.dense):
        config = {
            "in_features": int(dense.kernel.shape[0]),
            "out_features": dense.units,
            "bias": dense.use_bias,
            "activation_function": torch_names[dense.activation],
        }
        parts.append(("Dense", config, f"dense_{index}"))
    if head.normalize:
        parts.append(("Normalize", {}, ""))
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{_TYPES}Transformer"}]
    for index, (name, config, layer) in enumerate(parts, 1):
        folder = f"{index}_{name}"
        (directory / folder).mkdir()
        write_json(directory / folder / "config.json", config)
        if layer:
            write_tensors(directory / folder, *_variables(head, layer))
        modules.append(
            {"idx": index, "name": str(index), "path": folder, "type": f"{_TYPES}{name}"}
        )
    (directory / MODULES_FILE).write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    write_json(directory / _LENGTH_FILES[0], {"max_seq_length": max_length, "do_lower_case": False})
    model: dict[str, Any] = {
        "prompts": dict(prompts),
        "default_prompt_name": default_prompt,
        "similarity_fn_name": similarity,
    }
    if head.dimensions is not None:
        model["truncate_dim"] = head.dimensions
    write_json(directory / SENTENCE_FILE, model)


def check_activation(name: str) -> None:
    """Raises ConfigError for an activation that sentence-transformers lacks."""
    if name not in _ACTIVATIONS.values():
        known = ", ".join(_ACTIVATIONS.values())
        raise ConfigError(f"A dense layer's activation must be one of {known}, received {name!r}.")


# === Modules ===


def _module(path: Path, index: int, module: Any) -> tuple[str, str]:
    """Returns the class and the folder of a module."""
    if not isinstance(module, dict) or not all(
        isinstance(module.get(key), str) for key in ("type", "path")
    ):
        raise ConfigError(f"{path}: module {index} must have a `type` and a `path`, strings.")
    kind, folder = module["type"], module["path"]
    name = kind.rsplit(".", 1)[-1]
    if name not in _SUPPORTED or not kind.startswith("sentence_transformers."):
        raise ConfigError(
            f"{path}: module {index} is a {show(kind)}, which is not supported. Supported are "
            f"{', '.join(_SUPPORTED)} of sentence_transformers."
        )
    folder_inside(path.parent, folder, f"{path}: module {index}")
    return name, folder


def _check_order(path: Path, names: list[str]) -> None:
    """Checks the order of the modules; only Transformer and Pooling are required."""
    expected = ["Transformer"]
    expected += ["WeightedLayerPooling"] * ("WeightedLayerPooling" in names)
    expected += ["Pooling", *["Dense"] * names.count("Dense")]
    expected += ["Normalize"] * ("Normalize" in names)
    if names != expected:
        raise ConfigError(
            f"{path} chains {', '.join(names)}; supported is the order {', '.join(expected)}."
        )


def _pooling(place: Path) -> tuple[str, ...]:
    config = read_object(place / "config.json", _POOLING_SCHEMA)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for mode, key in _LEGACY_MODES.items() if config.get(key) is True]
        modes = modes or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not modes or any(mode not in POOLINGS for mode in modes):
        raise ConfigError(
            f"{place / 'config.json'} asks for the pooling {show(modes)}; supported are "
            f"{', '.join(POOLINGS)}."
        )
    return tuple(modes)


def _pooling_config(head: EmbeddingHead, hidden_dim: int) -> dict[str, Any]:
    config: dict[str, Any] = {"word_embedding_dimension": hidden_dim}
    in_order = tuple(mode for mode in POOLINGS if mode in head.pooling)
    if head.pooling != in_order:  # the older format has a fixed order
        return config | {"pooling_mode": list(head.pooling)}
    return config | {_LEGACY_MODES[mode]: mode in head.pooling for mode in POOLINGS}


def _dense(place: Path) -> dict[str, Any]:
    config = read_object(place / "config.json", _DENSE_SCHEMA)
    _check_names(place, config)
    if config.get("use_residual"):
        raise ConfigError(f"{place / 'config.json'} has `use_residual`, which is not supported.")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in _ACTIVATIONS:
        raise ConfigError(
            f"{place / 'config.json'} has the activation {show(activation)}; supported are "
            f"{', '.join(_ACTIVATIONS)}."
        )
    return {
        "units": _required(place, config, "out_features"),
        "activation": _ACTIVATIONS[activation],
        "use_bias": bool(config.get("bias", True)),  # null means False, as in torch
    }


def _check_names(place: Path, config: Mapping[str, Any]) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ConfigError(
                f"{place / 'config.json'} has the {key} {show(config[key])}; supported is "
                "'sentence_embedding'."
            )


def _required(place: Path, config: Mapping[str, Any], key: str) -> int:
    if key not in config:
        raise ConfigError(f"{place / 'config.json'} must have `{key}`, an integer.")
    return int(config[key])


def _max_length(place: Path) -> tuple[int | None, str]:
    """Returns the maximum length, if any, and the file that sets `do_lower_case`, or ""."""
    config: dict[str, Any] = {}
    path = place / _LENGTH_FILES[0]
    for name in _LENGTH_FILES:
        if not config and (place / name).exists():  # skips an empty file
            path = place / name
            config = read_object(path, _LENGTH_SCHEMA)
    tokenizer = place / "tokenizer_config.json"
    length: Any = config.get("max_seq_length")
    if length is None and tokenizer.exists():
        length = read_json(tokenizer).get("model_max_length")
        # transformers writes 1e30 for no limit.
        length = length if is_integer(length) and length < 1_000_000 else None
        if length is not None and length < 3:
            raise ConfigError(
                f"{tokenizer}: `model_max_length` must be at least 3, received {length}."
            )
    return length, str(path) if config.get("do_lower_case") else ""


def check_lowercase(modules: SentenceModules, tokenizer: Tokenizer) -> None:
    """Checks that the tokenizer lower-cases texts if `do_lower_case` is set.

    Args:
        modules: result of `read_modules`.
        tokenizer: Tokenizer of the same directory.

    Raises:
        ConfigError: `do_lower_case` is set, but the tokenizer keeps capital letters.
    """
    if not modules.lowercase:
        return
    letters = " ".join(string.ascii_lowercase)
    small, capital = tokenizer.tokenize([letters, letters.upper()]).to_list()
    if small != capital:
        raise ConfigError(
            f"{modules.lowercase} sets `do_lower_case`, but the tokenizer keeps capital letters. "
            "Set `do_lower_case` in tokenizer_config.json to true as well, or in the former file "
            "to false, as the model was trained."
        )


def _variables(head: EmbeddingHead, layer: str) -> tuple[list[Any], dict[str, str]]:
    """Returns a module's variables, and path -> name in its file."""
    if layer == "layer_weights":
        return [head.layer_weights], {head.layer_weights.path: "layer_weights"}
    dense = head.dense[int(layer.removeprefix("dense_"))]
    names = {dense.kernel.path: "linear.weight"}
    if dense.use_bias:
        names[dense.bias.path] = "linear.bias"
    return list(dense.weights), names

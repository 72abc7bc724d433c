"""Checks tokenizer_config.json, and the options of tokenizer.json that all tokenizers share."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text.added_tokens import NAMED, named_tokens
from keras_bert_zoo.text.vocabulary_files import read_json

_logger = logging.getLogger(__name__)

_KEYS_SHOWN = 12
# Truncation and padding in tokenizer.json. In transformers, each call sets them, and the default is
# neither. It uses only the sides, and the padding token if no other file names one.
_LENGTH_KEYS = {
    "truncation": {"direction", "max_length", "strategy", "stride"},
    "padding": {
        "direction", "pad_id", "pad_to_multiple_of", "pad_token", "pad_type_id", "strategy",
    },
}  # fmt: skip
# transformers writes int(1e30) for a model without a limit.
_NO_LIMIT = 10**9
# Keys of tokenizer_config.json that change token ids in any tokenizer, with the values that do not.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "split_special_tokens": (False, None),
    "normalization": (False, None),  # BERTweet: addresses and emoji
    "do_word_tokenize": (True, None),  # Japanese BERT, as the following
    "do_subword_tokenize": (True, None),
    "word_tokenizer_type": ("basic", None),
    "subword_tokenizer_type": ("wordpiece", None),
    "mecab_kwargs": (None, {}),
    "sudachi_kwargs": (None, {}),
    "jumanpp_kwargs": (None, {}),
}
# Keys that every tokenizer accepts: they change no ids and no offsets of an encoder's texts, or
# another function reads them. Some are paths; none of these is opened.
COMMON_KEYS = frozenset(
    """add_bos_token add_eos_token add_prefix_space add_special_tokens added_tokens_decoder
    additional_special_tokens auto_map backend bos_token chat_template clean_up_tokenization_spaces
    cls_token do_lower_case eos_token errors extra_special_tokens fix_mistral_regex from_slow
    full_tokenizer_file image_token is_local legacy local_files_only mask_token max_len
    max_len_sentences_pair max_len_single_sentence max_length model_input_names model_max_length
    model_specific_special_tokens name_or_path pad_to_multiple_of pad_token pad_token_type_id
    padding padding_side processor_class return_tensors return_token_type_ids sep_token
    special_tokens_map_file stride tokenizer_class tokenizer_file tokenizer_type
    transformers_version truncation truncation_side truncation_strategy unk_token use_fast
    use_default_system_prompt verbose vocab_file vocab_size""".split()
)


def check_keys(value: Mapping[str, Any], known: Iterable[str], what: str, path: object) -> None:
    """Raises ConfigError if an object has unknown keys."""
    unknown = sorted(set(value) - {*known})
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ConfigError(
            f"Expected options of {what} in {path}, received {unknown[:5]!r:.300}{more}."
        )


def check_config(config: Mapping[str, Any], known: Iterable[str], path: pathlib.Path) -> None:
    """Checks the keys of a tokenizer_config.json.

    Keys that change token ids and are not supported raise an error. Other unknown keys are listed
    in a warning, because the tokenizers of transformers do not read them.

    Args:
        config: dict, the contents of the file.
        known: the keys of one tokenizer class, besides `COMMON_KEYS`.
        path: the file.

    Raises:
        ConfigError: names the first unsupported key and its value.
    """
    for key, harmless in _UNSUPPORTED.items():
        if key in config and config[key] not in harmless:
            raise ConfigError(
                f"Expected {key}={harmless[0]!r} in {path}, received {config[key]!r:.80}. Other "
                "values are not supported."
            )
    unknown = sorted(set(config) - {*known, *COMMON_KEYS, *_UNSUPPORTED})
    if unknown:
        shown = ", ".join(f"`{ascii(key)[1:-1][:80]}`" for key in unknown[:_KEYS_SHOWN])
        more = f" and {len(unknown) - _KEYS_SHOWN} more" if len(unknown) > _KEYS_SHOWN else ""
        warn_once(_logger, f"{path}: unknown keys are ignored: {shown}{more}.")


def class_name(folder: pathlib.Path, by_model_type: Mapping[str, str]) -> str | None:
    """Returns the tokenizer class of a directory, without "Fast", or None.

    Args:
        folder: the directory.
        by_model_type: dict of `model_type` to class, for a config.json without a tokenizer class.

    Raises:
        ConfigError: `tokenizer_class` is not a string.
    Source: transformers, `AutoTokenizer.from_pretrained`.
    """
    config = read_json(folder / "config.json")
    name = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    name = name or config.get("tokenizer_class")
    if name is None:
        model_type = config.get("model_type")
        return by_model_type.get(model_type) if isinstance(model_type, str) else None
    if not isinstance(name, str):
        raise ConfigError(
            f"Expected tokenizer_class as a string in {folder}, received {name!r:.80}."
        )
    return name if name == "PreTrainedTokenizerFast" else name.removesuffix("Fast")


def read_flag(
    options: Mapping[str, Any], key: str, path: object, *, default: bool | None, null: bool = False
) -> bool | None:
    """Returns a flag of a JSON file.

    Args:
        options: dict of options.
        key: str.
        path: the place in the file, for the message.
        default: the value of a missing key.
        null: bool. Allow null.

    Raises:
        ConfigError: the value is neither true nor false.
    """
    value = options.get(key, default)
    if not isinstance(value, bool) and not (null and value is None):
        raise ConfigError(f"Expected {key} of true or false in {path}, received {value!r:.80}.")
    return value


def max_length(config: Mapping[str, Any], path: pathlib.Path) -> int | None:
    """Returns `model_max_length` of a tokenizer_config.json; None if it sets no limit."""
    limit = config.get("model_max_length")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise ConfigError(
            f"Expected model_max_length of at least 1 in {path}, received {limit!r:.80}."
        )
    return int(limit) if limit < _NO_LIMIT else None


def embedding_rows(folder: pathlib.Path) -> tuple[int, str] | None:
    """Returns the rows of the model's token embedding and the config's file name, or None."""
    for name in ("config.json", *GOOGLE_CONFIGS):
        rows = read_json(folder / name).get("vocab_size")
        if isinstance(rows, int) and not isinstance(rows, bool):
            return rows, name
    return None


def check_sides(config: Mapping[str, Any], fast: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Raises ConfigError for truncation or padding on the left."""
    for side in ("truncation_side", "padding_side"):
        if config.get(side, "right") != "right":
            raise ConfigError(
                f"Expected {side}='right' in {folder}, received {config[side]!r:.80}. Other sides "
                "are not supported."
            )
    path = folder / "tokenizer.json"
    for key, known in _LENGTH_KEYS.items():
        value = fast.get(key)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"Expected {key} as an object or null in {path}, received {value!r:.80}."
            )
        check_keys(value, known, key, path)
        direction = value.get("direction", "Right")
        if direction not in ("Right", "right"):
            raise ConfigError(
                f"Expected {key} with direction='Right' in {path}, received {direction!r:.80}. "
                "Other directions are not supported."
            )


def check_padding(
    pad_token: str | None,
    folder: pathlib.Path,
    config: Mapping[str, Any],
    fast: Mapping[str, Any],
) -> None:
    """Raises ConfigError if only tokenizer.json names a padding token, and it differs.

    Args:
        pad_token: the tokenizer's padding token.
        folder: the directory.
        config: dict, the contents of tokenizer_config.json.
        fast: dict, the contents of tokenizer.json.
    """
    received = (fast.get("padding") or {}).get("pad_token")
    if received in (None, pad_token) or "pad_token" in named_tokens(folder, config, NAMED):
        return
    raise ConfigError(
        f"Expected pad_token {pad_token!r:.80} in padding of {folder / 'tokenizer.json'}, received "
        f"{received!r:.80}. Set pad_token in {folder / 'tokenizer_config.json'}."
    )

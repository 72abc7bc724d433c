"""What the files of all kinds of tokenizers in a Hugging Face directory share.

Paths that a file names (`vocab_file`, `tokenizer_file`) are never opened: what is read is what lies
in the directory under the names that transformers gives its files.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.special_tokens import AddedToken

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer

NAMED = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
ALL_NAMED = ("bos_token", "eos_token", *NAMED)
# How Google's checkpoints call their configurations.
GOOGLE_CONFIGS = ("bert_config.json", "albert_config.json", "electra_config.json")
# transformers writes int(1e30) where a model has no limit.
_NO_LIMIT = 10**9


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object, or an empty one if there is no such file.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"expected a JSON object in UTF-8 at {path}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"expected a JSON object at {path}, got {type(value).__name__}")
    return value


def class_name(folder: pathlib.Path, by_model_type: Mapping[str, str]) -> str | None:
    """The tokenizer class that a directory names, without "Fast", or None.

    Args:
        folder: the directory.
        by_model_type: the class for a config.json that says `model_type` alone.

    Raises:
        ConfigError: it is named by something else than a string.
    Source: transformers, `AutoTokenizer.from_pretrained`.
    """
    config = read_json(folder / "config.json")
    name = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    name = name or config.get("tokenizer_class")
    if name is None:
        model_type = config.get("model_type")
        return by_model_type.get(model_type) if isinstance(model_type, str) else None
    if not isinstance(name, str):
        raise ConfigError(f"expected tokenizer_class as a string in {folder}, got {name!r:.80}")
    return name if name == "PreTrainedTokenizerFast" else name.removesuffix("Fast")


def max_length(config: Mapping[str, Any], path: pathlib.Path) -> int | None:
    """`model_max_length` of a tokenizer_config.json; None if it sets no limit."""
    limit = config.get("model_max_length")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise ConfigError(f"expected model_max_length of at least 1 in {path}, got {limit!r:.80}")
    return int(limit) if limit < _NO_LIMIT else None


def check_sides(config: Mapping[str, Any], fast: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Raises ConfigError if texts are to be cut or padded on the left."""
    for side in ("truncation_side", "padding_side"):
        if config.get(side, "right") != "right":
            raise ConfigError(f"{side}={config[side]!r} in {folder} is not supported; only 'right'")
    for key in ("truncation", "padding"):
        direction = (fast.get(key) or {}).get("direction", "Right")
        if direction not in ("Right", "right"):
            raise ConfigError(
                f"{key} with direction={direction!r} in {folder / 'tokenizer.json'} is not "
                "supported; only 'Right'"
            )


def named_tokens(
    folder: pathlib.Path, config: Mapping[str, Any], names: Iterable[str]
) -> dict[str, str | AddedToken | None]:
    """The named tokens that tokenizer_config.json and special_tokens_map.json set.

    As in transformers, the latter wins unless the former lists all added tokens.

    Returns:
        Name to token: a str if it is told without flags, which the tokenizer's class then sets.
    """
    file = read_json(folder / "special_tokens_map.json")
    sources = [file, config] if "added_tokens_decoder" in config else [config, file]
    found: dict[str, str | AddedToken | None] = {}
    for source in sources:
        for name in names:
            if source is file and file.get(name) is None:
                continue
            if name in source:
                value = source[name]
                found[name] = None if value is None else AddedToken.from_json(value).content
                if isinstance(value, Mapping):
                    found[name] = dataclasses.replace(AddedToken.from_json(value), special=True)
    return found


def added_tokens(
    folder: pathlib.Path, config: Mapping[str, Any], fast: Mapping[str, Any]
) -> dict[str, AddedToken]:
    """All tokens that a directory adds, by content, with their ids where they are said.

    From tokenizer.json, `added_tokens_decoder` of tokenizer_config.json (which wins), or the
    added_tokens.json of older versions; then the lists of further special tokens.

    Raises:
        ConfigError: a token or an id is none, or one token has two ids.
    """
    tokens: dict[str, AddedToken] = {}
    for value in fast.get("added_tokens") or []:
        token = AddedToken.from_json(value)
        tokens[token.content] = token
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, Mapping):
        raise ConfigError(
            f"expected added_tokens_decoder as an object in {folder / 'tokenizer_config.json'}, "
            f"got {decoder!r:.80}"
        )
    for token_id, value in decoder.items():
        if not (token_id.isascii() and token_id.isdigit()) or len(token_id) > 18:
            raise ConfigError(
                "expected ids as the keys of added_tokens_decoder in "
                f"{folder / 'tokenizer_config.json'}, got {token_id!r:.80}"
            )
        token = AddedToken.from_json(value, token_id=int(token_id))
        before = tokens.get(token.content)
        if before is not None and before.id not in (None, token.id):
            raise ConfigError(
                f"expected one id for the added token {token.content!r:.80} in {folder}, got "
                f"{before.id} and {token.id}"
            )
        tokens[token.content] = token
    extra = [
        AddedToken.from_json(value)
        for key in ("additional_special_tokens", "extra_special_tokens")
        for source in (config, read_json(folder / "special_tokens_map.json"))
        for value in _listed(source.get(key))
    ]
    specific = config.get("model_specific_special_tokens")
    extra += [AddedToken.from_json(value) for value in _listed(specific)]
    special = {token.content for token in extra}
    for named in named_tokens(folder, config, ALL_NAMED).values():
        if named is not None:
            special.add(named if isinstance(named, str) else named.content)
    older = {} if "added_tokens_decoder" in config else read_json(folder / "added_tokens.json")
    for content, token_id in older.items():
        # As transformers reads them: in the normalized text, unless they are special.
        kind = {"normalized": content not in special, "special": content in special}
        tokens.setdefault(
            content, AddedToken.from_json({"content": content, "id": token_id} | kind)
        )
    for token in extra:
        tokens.setdefault(token.content, token)
        tokens[token.content] = dataclasses.replace(tokens[token.content], special=True)
    return tokens


def with_flags(
    added: Mapping[str, AddedToken],
    named: Mapping[str, AddedToken | None],
    ids: Mapping[str, int],
) -> list[AddedToken]:
    """The added tokens in the order of their ids; those that have none yet come last."""
    tokens = dict(added)
    for token in named.values():
        if token is not None:
            tokens.setdefault(token.content, token)
            tokens[token.content] = dataclasses.replace(tokens[token.content], special=True)
    placed = {
        content: token if token.id is not None else dataclasses.replace(token, id=ids.get(content))
        for content, token in tokens.items()
    }
    return sorted(placed.values(), key=lambda token: 1 << 40 if token.id is None else token.id)


def _listed(value: Any) -> list[Any]:
    """The tokens of a list, or of an object that names them."""
    if isinstance(value, Mapping):
        return list(value.values())
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigError(f"expected special tokens as a list or an object, got {value!r:.80}")
    return value


@dataclass(frozen=True)
class Packing:
    """How segments are packed: the options of `Tokenizer` and of `packing.Layout`."""

    separators_between: int = 1
    second_segment_id: int = 1
    cls_segment_id: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Packing:
        """That of a tokenizer."""
        return cls(
            tokenizer.separators_between, tokenizer.second_segment_id, tokenizer.cls_segment_id
        )


@dataclass(frozen=True)
class Template:
    """A post-processor of a tokenizer.json.

    Attributes:
        cls_token, sep_token: str.
        packing: Packing.
        trim_offsets: bool. Whether offsets leave out whitespace.
        add_prefix_space: bool. With `trim_offsets`: a space before the first token stays.
        ids: the ids of `cls_token` and `sep_token`.
    """

    cls_token: str
    sep_token: str
    packing: Packing
    ids: tuple[tuple[str, int], ...]
    trim_offsets: bool = False
    add_prefix_space: bool = False

    def check_ids(self, ids: Mapping[str, int], path: pathlib.Path) -> None:
        """Raises ConfigError if the file's ids are not the vocabulary's."""
        for token, token_id in self.ids:
            if ids.get(token) != token_id:
                raise ConfigError(
                    f"expected the post_processor in {path} to have the vocabulary's id of "
                    f"{token!r:.80}, {ids.get(token)}, got {token_id!r:.80}"
                )


def read_template(processor: Mapping[str, Any] | None, path: pathlib.Path) -> Template | None:
    """The post-processor of a tokenizer.json, or None if it has none.

    Raises:
        ConfigError: it packs segments in another way than `packing.Layout` can.
    """
    if not processor:
        return None
    try:
        template = _template(processor)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        template = None
    if template is None:
        raise ConfigError(
            "expected a post_processor that gives [CLS] a [SEP] and [CLS] a [SEP] b [SEP], or with "
            f"two [SEP] between a and b, in {path}, got {dict(processor)!r:.200}"
        )
    return template


def _template(processor: Mapping[str, Any]) -> Template | None:
    kind = processor["type"]
    if kind in ("BertProcessing", "RobertaProcessing"):
        (sep, sep_id), (cls, cls_id) = processor["sep"], processor["cls"]
        ids = ((cls, cls_id), (sep, sep_id))
        if kind == "BertProcessing":
            return Template(cls, sep, Packing(), ids)
        trim, prefix = (processor.get(key) is not False for key in _ROBERTA_FLAGS)
        return Template(cls, sep, Packing(2, 0), ids, trim, prefix)
    if kind != "TemplateProcessing":
        return None
    single, pair = (
        [
            (part["id"], part["type_id"], what)
            for entry in processor[key]
            for what, part in entry.items()
        ]
        for key in ("single", "pair")
    )
    cls, cls_segment = single[0][:2]
    sep = single[2][0]
    between = len(pair) - 4
    second = pair[-1][1]
    s, q = "SpecialToken", "Sequence"
    start = [(cls, cls_segment, s), ("A", 0, q), (sep, 0, s)]
    if (
        between not in (1, 2)
        or single != start
        or pair != [*start, *start[2:] * (between - 1), ("B", second, q), (sep, second, s)]
    ):
        return None
    found = []
    for token in dict.fromkeys((cls, sep)):
        (token_id,) = processor["special_tokens"][token]["ids"]
        found.append((token, token_id))
    return Template(cls, sep, Packing(between, second, cls_segment), tuple(found))


_ROBERTA_FLAGS = ("trim_offsets", "add_prefix_space")


def write_template(template: Template) -> dict[str, Any]:
    """The post-processor for a tokenizer.json."""
    ids = dict(template.ids)
    cls, sep, packing = template.cls_token, template.sep_token, template.packing
    second = packing.second_segment_id
    if template.trim_offsets:
        return {
            "type": "RobertaProcessing",
            "sep": [sep, ids[sep]],
            "cls": [cls, ids[cls]],
            "trim_offsets": True,
            "add_prefix_space": template.add_prefix_space,
        }

    def special(token: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def sequence(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special(cls, packing.cls_segment_id), sequence("A", 0), special(sep, 0)]
    between = [special(sep, 0)] * (packing.separators_between - 1)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, sequence("B", second), special(sep, second)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ids
        },
    }


def remove_stale(folder: pathlib.Path, names: Iterable[str]) -> None:
    """Removes files of a tokenizer saved here before, which would contradict the new ones."""
    for name in names:
        (folder / name).unlink(missing_ok=True)

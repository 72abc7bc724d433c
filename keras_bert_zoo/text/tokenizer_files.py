"""What the files of all kinds of tokenizers in a Hugging Face directory share.

Paths that a file names (`vocab_file`, `tokenizer_file`) are never opened: what is read is what lies
in the directory under the names that transformers gives its files.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_bert_zoo import files
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text.special_tokens import AddedToken

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

NAMED = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
ALL_NAMED = ("bos_token", "eos_token", *NAMED)
# The largest vocabulary of an encoder is XLM-V's, of 901,629 pieces: 18 MB as SentencePiece's model
# file, and 62 MB in a tokenizer.json with the 68 bytes a piece that XLM-R's takes (250,002 pieces,
# 17 MB). Other files of JSON are small; see `files.JSON_LIMIT_BYTES`.
_TOKENIZER_LIMIT_BYTES = 100_000_000
_VOCABULARY_LIMIT_BYTES = 32_000_000
# Each costs some kilobytes in the tables that find it. Vocabularies that are extended for a field
# get some thousands.
_ADDED_LIMIT = 100_000
GAPS_LIMIT = 10_000  # ids without a token; the files that have any have a few
_ADDED_CHARACTERS = 512  # what it takes to see which can overlap grows with the square
# What tokenizer.json says of cutting and padding. transformers cuts and pads as each call asks, by
# default not at all: of these it takes the sides, and the token for padding where no other file
# names one.
_LENGTH_KEYS = {
    "truncation": {"direction", "max_length", "strategy", "stride"},
    "padding": {
        "direction", "pad_id", "pad_to_multiple_of", "pad_token", "pad_type_id", "strategy",
    },
}  # fmt: skip
# transformers writes int(1e30) where a model has no limit.
_NO_LIMIT = 10**9


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object, or an empty one if there is nothing of that name.

    Raises:
        ConfigError: it cannot be read, is larger than such files are, or is something else.
    """
    if not is_there(path):
        return {}
    if path.name == "tokenizer.json":
        return files.read_json(path, limit=_TOKENIZER_LIMIT_BYTES)
    return files.read_json(path)


def is_there(path: pathlib.Path) -> bool:
    """Whether there is something of that name, were it a link that leads nowhere.

    What is there and cannot be read is an error, never passed over.
    """
    return os.path.lexists(path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The contents of a vocabulary's file.

    Raises:
        ConfigError: it is missing, no regular file, or larger than any vocabulary is.
    """
    return files.read_small_file(path, _VOCABULARY_LIMIT_BYTES)


def read_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    """The lines of a vocabulary's file.

    Split at line feeds alone, as a vocabulary may hold other line separators as tokens; one
    carriage return before a line feed is not the line's.

    Args:
        path: of the file.
        what: for the message.

    Raises:
        ConfigError: see `read_bytes`; or it is not UTF-8.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"expected {what} in UTF-8 at {path}, got other bytes at {error.start}"
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def tokens_in_order(ids: Any, path: pathlib.Path, *, gaps: bool = False) -> list[str]:
    """The tokens of a vocabulary by their ids.

    Args:
        ids: token to id.
        path: for messages.
        gaps: bool. Whether some ids may have no token, as transformers saves a vocab.txt with
            repeated or blank lines. They get a stand-in, which no text holds; see `fill_gaps`.

    Raises:
        ConfigError: it is no object, or its ids are not 0 to the last, once each.
    """
    if not isinstance(ids, Mapping) or not ids:
        raise ConfigError(f"expected a vocabulary as an object of ids in {path}, got {ids!r:.80}")
    most = len(ids) + min(len(ids), GAPS_LIMIT) if gaps else len(ids)
    seen: set[int] = set()
    for token, token_id in ids.items():
        if (
            not isinstance(token_id, int)
            or isinstance(token_id, bool)
            or not 0 <= token_id < most
            or token_id in seen
        ):
            most_once = "at most once each" if gaps else "once each"
            raise ConfigError(
                f"expected the ids 0 to {most - 1} {most_once} in {path}, got {token_id!r:.40} "
                f"for {token!r:.60}"
            )
        seen.add(token_id)
    return fill_gaps(ids, max(seen) + 1)


def fill_gaps(ids: Mapping[str, int], count: int) -> list[str]:
    """The tokens of a vocabulary by their ids, with a stand-in for each id that has no token.

    Args:
        ids: token -> id; of no two tokens the same.
        count: int. One more than the highest id.

    Returns:
        list of str. A stand-in has a space in it, so no word of a text is like it.

    >>> fill_gaps({"a": 0, "b": 2}, 3)
    ['a', '[id 1 is free]', 'b']
    """
    tokens: list[str | None] = [None] * count
    for token, token_id in ids.items():
        tokens[token_id] = token
    return [_stand_in(i, ids) if token is None else token for i, token in enumerate(tokens)]


def _stand_in(token_id: int, taken: Mapping[str, int]) -> str:
    name = f"[id {token_id} is free]"
    while name in taken:
        name = f"[{name}]"
    return name


def check_keys(value: Mapping[str, Any], known: Iterable[str], what: str, path: object) -> None:
    """Raises ConfigError if an object holds what is not known."""
    unknown = sorted(set(value) - {*known})
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ConfigError(f"expected options of {what} in {path}, got {unknown[:5]!r:.300}{more}")


def check_fields(config: Mapping[str, Any], known: Iterable[str], path: pathlib.Path) -> None:
    """Compares the keys of a tokenizer_config.json with those that are known.

    What is known to change the ids of texts and is not supported is refused. Other keys that are
    unknown are listed in a warning: transformers' tokenizers do not read them.

    Args:
        config: the file's contents.
        known: the keys that a kind of tokenizer reads, or that change nothing.
        path: of the file.

    Raises:
        ConfigError: naming the first such key and its value.
    """
    for key, harmless in _CHANGING.items():
        if key in config and config[key] not in harmless:
            raise ConfigError(
                f"{key}={config[key]!r:.80} in {path} is not supported; only {harmless[0]!r}"
            )
    unknown = sorted(set(config) - {*known, *_NEUTRAL, *_CHANGING})
    if unknown:
        shown = ", ".join(f"`{ascii(key)[1:-1][:80]}`" for key in unknown[:12])
        more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
        warn_once(_logger, f"{path}: unknown keys were left unread: {shown}{more}.")


# Keys of tokenizer_config.json that change the ids of texts, whatever the tokenizer, and the values
# that do not.
_CHANGING: dict[str, tuple[Any, ...]] = {
    "split_special_tokens": (False, None),
    "normalization": (False, None),  # BERTweet's: of addresses and emoji
    "do_word_tokenize": (True, None),  # these of Japanese BERT
    "do_subword_tokenize": (True, None),
    "word_tokenizer_type": ("basic", None),
    "subword_tokenizer_type": ("wordpiece", None),
    "mecab_kwargs": (None, {}),
    "sudachi_kwargs": (None, {}),
    "jumanpp_kwargs": (None, {}),
}
# Keys that change nothing, or nothing of what an encoder reads.
_NEUTRAL = frozenset(
    """add_bos_token add_eos_token add_prefix_space add_special_tokens chat_template
    errors fix_mistral_regex from_slow full_tokenizer_file image_token legacy
    max_len_sentences_pair max_len_single_sentence return_token_type_ids return_tensors
    tokenizer_type use_default_system_prompt""".split()
)


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
            raise ConfigError(
                f"{side}={config[side]!r:.80} in {folder} is not supported; only 'right'"
            )
    path = folder / "tokenizer.json"
    for key, known in _LENGTH_KEYS.items():
        value = fast.get(key)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"expected {key} as an object or null in {path}, got {value!r:.80}")
        check_keys(value, known, key, path)
        direction = value.get("direction", "Right")
        if direction not in ("Right", "right"):
            raise ConfigError(
                f"{key} with direction={direction!r:.80} in {path} is not supported; only 'Right'"
            )


def check_padding(
    pad_token: str | None,
    folder: pathlib.Path,
    config: Mapping[str, Any],
    fast: Mapping[str, Any],
) -> None:
    """Raises ConfigError if tokenizer.json pads with another token, and no other file names one.

    Args:
        pad_token: the one that was taken.
        folder: the directory.
        config: the contents of its tokenizer_config.json.
        fast: the contents of its tokenizer.json.
    """
    said = (fast.get("padding") or {}).get("pad_token")
    if said is None or said == pad_token or "pad_token" in named_tokens(folder, config, NAMED):
        return
    raise ConfigError(
        f"expected pad_token {pad_token!r:.80} in padding of {folder / 'tokenizer.json'}, got "
        f"{said!r:.80}; name the right one as pad_token in {folder / 'tokenizer_config.json'}"
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


def listed_tokens(fast: Mapping[str, Any], path: pathlib.Path) -> list[AddedToken]:
    """The added tokens that a tokenizer.json lists.

    Raises:
        ConfigError: it is no list, or one of them is none; there are more than of any tokenizer.
    """
    values = fast.get("added_tokens")
    if values is None:
        return []
    if not isinstance(values, list):
        raise ConfigError(f"expected added_tokens as a list in {path}, got {values!r:.80}")
    _check_count(values, path)
    return [AddedToken.from_json(value) for value in values]


def _check_count(tokens: Sized, where: pathlib.Path) -> None:
    if len(tokens) > _ADDED_LIMIT:
        raise ConfigError(
            f"expected at most {_ADDED_LIMIT:,} added tokens in {where}, got {len(tokens):,}"
        )


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
    for token in listed_tokens(fast, folder / "tokenizer.json"):
        tokens[token.content] = token
    decoder = config.get("added_tokens_decoder")
    decoder = {} if decoder is None else decoder
    if not isinstance(decoder, Mapping):
        raise ConfigError(
            f"expected added_tokens_decoder as an object in {folder / 'tokenizer_config.json'}, "
            f"got {decoder!r:.80}"
        )
    _check_count(decoder, folder / "tokenizer_config.json")
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
    _check_count(older, folder / "added_tokens.json")
    for content, token_id in older.items():
        # As transformers reads them: in the normalized text, unless they are special.
        kind = {"normalized": content not in special, "special": content in special}
        tokens.setdefault(
            content, AddedToken.from_json({"content": content, "id": token_id} | kind)
        )
    for token in extra:
        tokens.setdefault(token.content, token)
        tokens[token.content] = dataclasses.replace(tokens[token.content], special=True)
    _check_count(tokens, folder)
    for content in tokens:
        if len(content) > _ADDED_CHARACTERS:
            raise ConfigError(
                f"expected added tokens of at most {_ADDED_CHARACTERS} characters in {folder}, got "
                f"{content!r:.80}... of {len(content):,}"
            )
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


def read_template(processor: Any, path: pathlib.Path) -> Template | None:
    """The post-processor of a tokenizer.json, or None if it has none.

    Raises:
        ConfigError: it packs segments in another way than `packing.Layout` can.
    """
    if processor is None:
        return None
    try:
        template = _template(processor)
        if template is not None and not _is_sound(template):
            template = None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        template = None
    if template is None:
        raise ConfigError(
            "expected a post_processor that gives [CLS] a [SEP] and [CLS] a [SEP] b [SEP], or with "
            f"two [SEP] between a and b, in {path}, got {processor!r:.200}"
        )
    return template


def _is_sound(template: Template) -> bool:
    """Whether its tokens are texts, its ids and segments numbers and its flags true or false."""
    tokens = (template.cls_token, template.sep_token)
    numbers = [number for _, number in template.ids]
    numbers += [template.packing.second_segment_id, template.packing.cls_segment_id]
    flags = (template.trim_offsets, template.add_prefix_space)
    return (
        all(isinstance(token, str) for token in tokens)
        and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
        and all(isinstance(flag, bool) for flag in flags)
    )


def _template(processor: Mapping[str, Any]) -> Template | None:
    kind = processor["type"]
    if set(processor) - _PROCESSOR_KEYS.get(kind, set()):
        return None
    if kind in ("BertProcessing", "RobertaProcessing"):
        (sep, sep_id), (cls, cls_id) = processor["sep"], processor["cls"]
        ids = ((cls, cls_id), (sep, sep_id))
        if kind == "BertProcessing":
            return Template(cls, sep, Packing(), ids)
        trim, prefix = (processor.get(key, True) for key in _ROBERTA_FLAGS)
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
_PROCESSOR_KEYS = {
    "BertProcessing": {"type", "sep", "cls"},
    "RobertaProcessing": {"type", "sep", "cls", *_ROBERTA_FLAGS},
    "TemplateProcessing": {"type", "single", "pair", "special_tokens"},
}


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

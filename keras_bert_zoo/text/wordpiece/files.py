"""The files of a WordPiece tokenizer in a Hugging Face directory, read and written.

What a file asks for and `WordPieceTokenizer` does not do is refused by name, never passed over.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text import tokenizer_files
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer_files import ALL_NAMED, NAMED, Packing, Template
from keras_bert_zoo.text.wordpiece.classes import (
    BERT,
    BY_MODEL_TYPE,
    GENERIC,
    KINDS,
    MPNET,
    REFUSED,
    Kind,
)
from keras_bert_zoo.text.wordpiece.vocabulary import is_safe_in_lines, vocabulary_of
from keras_bert_zoo.text.wordpiece.vocabulary import read_vocabulary as read_vocabulary

if TYPE_CHECKING:
    from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

_logger = logging.getLogger(__name__)


# An uncased vocabulary may hold oddities such as <S>, but not this many pieces of capital letters.
_PLAINLY_CASED = 20
# Fields of tokenizer_config.json that decide nothing about ids and offsets of texts, or are read
# elsewhere. Among them are paths, of which none is opened.
_KNOWN_FIELDS = frozenset(
    {
        "added_tokens_decoder", "additional_special_tokens", "auto_map", "backend", "bos_token",
        "clean_text", "clean_up_tokenization_spaces", "cls_token", "do_basic_tokenize",
        "do_lower_case", "eos_token", "extra_special_tokens", "is_local", "local_files_only",
        "mask_token", "max_length", "max_len", "model_input_names", "model_max_length",
        "model_specific_special_tokens", "name_or_path", "never_split", "pad_to_multiple_of",
        "pad_token", "pad_token_type_id", "padding", "padding_side", "processor_class", "sep_token",
        "special_tokens_map_file", "stride", "strip_accents", "tokenize_chinese_chars",
        "tokenizer_class", "tokenizer_file", "transformers_version", "truncation",
        "truncation_side", "truncation_strategy", "unk_token", "use_fast", "verbose", "vocab_file",
        "vocab_size", "wordpieces_prefix",
    }
)  # fmt: skip


def read_directory(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of WordPieceTokenizer for a Hugging Face directory."""
    folder = pathlib.Path(directory)
    config_path, fast_path = folder / "tokenizer_config.json", folder / "tokenizer.json"
    config = tokenizer_files.read_json(config_path)
    fast = tokenizer_files.read_json(fast_path)
    name = tokenizer_files.class_name(folder, BY_MODEL_TYPE)
    kind = _kind(name, fast, folder)
    try:
        options = _from_fast(fast, fast_path) if fast else {}
        template = tokenizer_files.read_template(fast.get("post_processor"), fast_path)
        tokenizer_files.check_sides(config, fast, folder)
        added = tokenizer_files.added_tokens(folder, config, fast)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"expected a tokenizer as `tokenizers` writes it in {fast_path}, "
            f"got another structure ({type(error).__name__}: {error})"
        ) from error
    options["vocabulary"] = vocabulary_of(folder, options.get("vocabulary"))
    if kind is None and not fast and {"<s>", "[CLS]"} <= set(options["vocabulary"]):
        raise ConfigError(
            f"expected a tokenizer_config.json in {folder} whose tokenizer_class says whether "
            '<s> or [CLS] begins a text, as the vocabulary holds both ("MPNetTokenizer" or '
            '"BertTokenizer")'
        )
    # transformers takes an unknown or a generic class's tokenizer.json as it is.
    as_it_is = fast and name is not None and kind is None
    options.update({} if as_it_is else _from_config(config, config_path))
    _check_config(config, config_path)
    limit = tokenizer_files.max_length(config, config_path)
    options.update({} if limit is None else {"max_length": limit})
    if "lowercase" not in options:
        options.update(_inferred(options["vocabulary"], folder, config or fast))
    assumed = kind or _assumed(template)
    names = _names(folder, config, assumed, added, template if kind is None else None)
    names |= {"unk_token": options.pop("unk_token", names["unk_token"])} if as_it_is else {}
    options.pop("unk_token", None)
    _drop_missing_mask(names, {*options["vocabulary"]}, added, folder)
    options.update({key: names[key] for key in NAMED})
    if kind is None:  # a class has its own pad_token
        tokenizer_files.check_padding(names["pad_token"], folder, config, fast)
    options.update(dataclasses.asdict(assumed.packing), trim_offsets=assumed.trim_offsets)
    if template is not None:
        _apply_template(template, options, None if kind is None else name, added, fast_path)
    known = set(options["vocabulary"])
    for key in ("bos_token", "eos_token"):
        token = names.get(key)
        if token is not None and (token in known or token != assumed.names.get(key)):
            added.setdefault(token, AddedToken(token))
    options["added_tokens"] = tuple(added.values())
    options["tokenizer_class"] = None if kind is None else name
    return options


def _kind(name: str | None, fast: Mapping[str, Any], folder: pathlib.Path) -> Kind | None:
    """What the class takes for granted; None if the files have to say it all."""
    if name in REFUSED:
        raise ConfigError(f"tokenizer_class {name!r} in {folder} is not supported: {REFUSED[name]}")
    if name in KINDS:
        return KINDS[name]
    if name is None:
        model_type = tokenizer_files.read_json(folder / "config.json").get("model_type")
        if model_type is not None and not fast:
            raise ConfigError(
                f"expected a tokenizer_class in {folder / 'tokenizer_config.json'}, as models of "
                f"model_type {model_type!r:.80} have other tokenizers than WordPiece; write "
                '"BertTokenizer" if this one splits texts as BERT does'
            )
        return None
    if not fast:
        known = "its own class" if name in GENERIC else f"tokenizer_class {name!r:.80}"
        raise ConfigError(
            f"expected tokenizer.json in {folder}, which {known} is told by, or a tokenizer_class "
            f"of {', '.join(KINDS)}; write the one that splits texts as this one does"
        )
    return None


def _assumed(template: Template | None) -> Kind:
    """What is assumed where no class is named: BERT's tokens, or RoBERTa's if packed like it."""
    if template is None or template.packing.separators_between == 1:
        return BERT
    names = {
        **MPNET.names,
        "cls_token": template.cls_token,
        "sep_token": template.sep_token,
    }
    return Kind({key: names[key] for key in NAMED})


def _drop_missing_mask(
    names: dict[str, str | None],
    vocabulary: set[str],
    added: dict[str, AddedToken],
    folder: pathlib.Path,
) -> None:
    """Does without a mask token that the vocabulary lacks: only masked language models use it."""
    token = names["mask_token"]
    if token is None or token in vocabulary:
        return
    if token in added and added[token].id is not None:
        return
    added.pop(token, None)
    names["mask_token"] = None
    warn_once(
        _logger,
        f"{folder}: the vocabulary has no mask_token {token!r:.80}; the tokenizer is loaded "
        "without one, which serves everything but masked language models.",
    )


def _names(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    kind: Kind,
    added: dict[str, AddedToken],
    template: Template | None,
) -> dict[str, str | None]:
    """The named tokens; their flags go into `added`, unless they stand there already."""
    plain = dict(kind.names)
    if template is not None:
        plain |= {"cls_token": template.cls_token, "sep_token": template.sep_token}
    found: dict[str, str | AddedToken | None] = {**plain}
    for key, token in tokenizer_files.named_tokens(folder, config, ALL_NAMED).items():
        if token is not None or template is None or key not in ("cls_token", "sep_token"):
            found[key] = token
    for key in ("unk_token", "cls_token", "sep_token", "pad_token"):
        if found.get(key) is None:
            raise ConfigError(f"expected {key} in {folder}, got null; name the token")
    names: dict[str, str | None] = {}
    for key, token in found.items():
        if isinstance(token, str):
            token = AddedToken(token, lstrip=kind.mask_lstrip and key == "mask_token")
        names[key] = token.content if token else None
        if token is not None and token != AddedToken(token.content):
            added.setdefault(token.content, token)
    return names


def _apply_template(
    template: Template,
    options: dict[str, Any],
    name: str | None,
    added: Mapping[str, AddedToken],
    path: pathlib.Path,
) -> None:
    """Checks tokenizer.json's packing against the class's, or takes it where none is named."""
    for key in ("cls_token", "sep_token"):
        if getattr(template, key) != options[key]:
            raise ConfigError(
                f"expected {key} {options[key]!r:.80} in the post_processor in {path}, "
                f"got {getattr(template, key)!r:.80}"
            )
    ids = {token: i for i, token in enumerate(options["vocabulary"])}
    ids |= {token.content: token.id for token in added.values() if token.id is not None}
    template.check_ids(ids, path)
    if name is not None:
        # transformers packs as the class does, whatever the file says.
        expected, found = KINDS[name].packing, template.packing
        if found.separators_between != expected.separators_between:
            raise ConfigError(
                f"expected a post_processor in {path} with {expected.separators_between} "
                f"separators between segments, as {name} has it, got {found.separators_between}; "
                'if the file is right, write "PreTrainedTokenizerFast" as the tokenizer_class'
            )
        return
    options.update(dataclasses.asdict(template.packing), trim_offsets=template.trim_offsets)
    stripping = [token.content for token in added.values() if token.lstrip or token.rstrip]
    if template.trim_offsets and template.add_prefix_space and stripping:
        raise ConfigError(
            f"add_prefix_space=true of the post_processor in {path} beside the token "
            f"{stripping[0]!r} that takes whitespace is not supported"
        )


def _inferred(
    vocabulary: Sequence[str], folder: pathlib.Path, configured: Mapping[str, Any]
) -> dict[str, Any]:
    """Whether texts are lower-cased, where no file says it.

    Google's checkpoints come without a word on it, and transformers' default is to lower-case,
    which makes half of a cased vocabulary unreachable without an error anywhere.
    """
    if configured:
        return {}
    # Not `isupper`: lower-casing keeps ℝ, and BERT's uncased vocabulary holds it.
    cased = sum(
        piece != piece.lower()
        for piece in vocabulary
        if not (piece[:1] in "[<" and piece[-1:] in "]>")
    )
    if any((folder / name).exists() for name in GOOGLE_CONFIGS):
        return {"lowercase": cased == 0}
    if cased < _PLAINLY_CASED:
        return {}
    _logger.warning(
        "%s says nowhere whether texts are lower-cased; %d pieces of its vocabulary hold capital "
        "letters, so they are not. Write do_lower_case into tokenizer_config.json to be sure.",
        folder,
        cased,
    )
    return {"lowercase": False}


def _check_config(config: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises ConfigError for what tokenizer_config.json asks for and no option does."""
    tokenizer_files.check_fields(config, _KNOWN_FIELDS, path)
    if config.get("never_split"):
        raise ConfigError(f"never_split={config['never_split']!r:.80} in {path} is not supported")
    for key, only in (
        ("do_basic_tokenize", True), ("clean_text", True), ("wordpieces_prefix", "##"),
    ):  # fmt: skip
        if config.get(key, only) != only:
            raise ConfigError(
                f"{key}={json.dumps(config[key]):.80} in {path} is not supported; only "
                f"{json.dumps(only)}"
            )


def _from_config(config: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Options of the normalizer that tokenizer_config.json names."""
    options: dict[str, Any] = {}
    for theirs, ours in (
        ("do_lower_case", "lowercase"),
        ("strip_accents", "strip_accents"),
        ("tokenize_chinese_chars", "handle_chinese_chars"),
    ):
        if theirs not in config:
            continue
        value = config[theirs]
        if not (isinstance(value, bool) or (value is None and theirs == "strip_accents")):
            raise ConfigError(f"expected {theirs} of true or false in {path}, got {value!r:.80}")
        options[ours] = value
    return options


def _from_fast(fast: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Options of a tokenizer.json."""
    model = _step(fast, "model", "WordPiece", path)
    if model.get("continuing_subword_prefix", "##") != "##":
        raise ConfigError(
            f"continuing_subword_prefix={model['continuing_subword_prefix']!r:.80} in {path} is "
            "not supported; only '##'"
        )
    unk_token = model.get("unk_token", "[UNK]")
    if not isinstance(unk_token, str):
        raise ConfigError(f"expected unk_token as a string in {path}, got {unk_token!r:.80}")
    longest = model.get("max_input_chars_per_word", 100)
    if isinstance(longest, bool) or not isinstance(longest, int) or not 1 <= longest < 1 << 31:
        raise ConfigError(
            f"expected max_input_chars_per_word as an int from 1 to {(1 << 31) - 1} in {path}, got "
            f"{longest!r:.80}"
        )
    normalizer = _step(fast, "normalizer", "BertNormalizer", path)
    flags: dict[str, bool | None] = {}
    for key, default in _NORMALIZER.items():
        value = normalizer.get(key, default)
        if not isinstance(value, bool) and not (value is None and key == "strip_accents"):
            raise ConfigError(
                f"expected {key} of true or false in the normalizer of {path}, got {value!r:.80}"
            )
        flags[key] = value
    if not flags.pop("clean_text"):
        raise ConfigError(f"expected a BertNormalizer with clean_text in {path}, got false")
    _step(fast, "pre_tokenizer", "BertPreTokenizer", path)
    if fast.get("decoder") is not None:
        decoder = _step(fast, "decoder", "WordPiece", path)
        prefix, cleanup = decoder.get("prefix", "##"), decoder.get("cleanup", True)
        # `detokenize` does not clean up, nor does it have to: that is for the reader's eye.
        if prefix != "##" or not isinstance(cleanup, bool):
            raise ConfigError(
                f"expected a WordPiece decoder with the prefix '##' in {path}, got {decoder!r:.120}"
            )
    return flags | {
        "unk_token": unk_token,
        "max_characters_per_word": longest,
        "vocabulary": tokenizer_files.tokens_in_order(model.get("vocab"), path, gaps=True),
    }


# The steps of a tokenizer.json of WordPiece, and what may stand in them beside the type.
_NORMALIZER: dict[str, bool | None] = {
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
_STEPS: dict[str, frozenset[str]] = {
    "model": frozenset(
        {"unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}
    ),
    "normalizer": frozenset(_NORMALIZER),
    "pre_tokenizer": frozenset(),
    "decoder": frozenset({"prefix", "cleanup"}),
}


def _step(fast: Mapping[str, Any], key: str, kind: str, path: pathlib.Path) -> Mapping[str, Any]:
    """A step of a tokenizer.json, which must be of this type and hold only what is known."""
    step = fast.get(key)
    # Files of 2020 and earlier do not say the model's type.
    found = (
        step.get("type", kind if key == "model" else None) if isinstance(step, Mapping) else None
    )
    if not isinstance(step, Mapping) or found != kind:
        got = step if found is None else found
        raise ConfigError(f"expected a {kind} {key} in {path}, got {got!r:.80}")
    tokenizer_files.check_keys(step, {"type"} | _STEPS[key], f"a {kind} {key}", path)
    return step


def write_directory(directory: str | os.PathLike[str], tokenizer: WordPieceTokenizer) -> None:
    """Writes what `transformers.AutoTokenizer` loads as the same tokenizer.

    vocab.txt and tokenizer_config.json, if there is a class that does what the tokenizer does;
    otherwise tokenizer.json instead of vocab.txt, for the generic class.
    """
    folder = pathlib.Path(directory)
    name = next(
        (
            name
            for name in (
                tokenizer.tokenizer_class,
                "BertTokenizer",
                "MPNetTokenizer",
                "FunnelTokenizer",
            )
            if name in KINDS and KINDS[name].fits(tokenizer)
        ),
        None,
    )
    if tokenizer.max_characters_per_word != 100:
        name = None
    if not is_safe_in_lines(tokenizer.pieces):
        name = None
    config: dict[str, Any] = {
        "tokenizer_class": name or "PreTrainedTokenizerFast",
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.handle_chinese_chars,
        **{key: getattr(tokenizer, key) for key in NAMED},
        "additional_special_tokens": list(tokenizer.additional_special_tokens),
        "added_tokens_decoder": {
            str(token.id): token.to_json()
            for token in sorted(tokenizer.added_tokens, key=lambda token: token.id or 0)
        },
    }
    for key in ("bos_token", "eos_token"):
        if name is not None and key in KINDS[name].names:
            token = KINDS[name].names[key]
            config[key] = token if token in tokenizer.special_tokens else None
    if tokenizer.max_length is not None:
        config["model_max_length"] = tokenizer.max_length
    files: dict[str, bytes] = {}
    if name is None:
        if tokenizer.second_segment_id == 0:
            config["model_input_names"] = ["input_ids", "attention_mask"]
        files["tokenizer.json"] = _dump(_fast(tokenizer))
    else:
        files["vocab.txt"] = "".join(f"{token}\n" for token in tokenizer.pieces).encode()
    files["tokenizer_config.json"] = _dump(config)
    folder.mkdir(parents=True, exist_ok=True)
    stale = {"vocab.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"}
    tokenizer_files.remove_stale(folder, stale - set(files))
    for file, content in files.items():
        (folder / file).write_bytes(content)


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _fast(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    """The contents of tokenizer.json."""
    template = Template(
        tokenizer.cls_token,
        tokenizer.sep_token,
        Packing.of(tokenizer),
        (
            (tokenizer.cls_token, tokenizer.cls_token_id),
            (tokenizer.sep_token, tokenizer.sep_token_id),
        ),
        tokenizer.trim_offsets,
    )
    if tokenizer.trim_offsets and not MPNET.fits(tokenizer):
        raise ConfigError(
            "expected trim_offsets=False to save, or separators_between=2 and "
            "second_segment_id=0: no post-processor of `tokenizers` does one without the other"
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token.id, **token.to_json()}
            for token in sorted(tokenizer.added_tokens, key=lambda token: token.id or 0)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": tokenizer.handle_chinese_chars,
            "strip_accents": tokenizer.strip_accents,
            "lowercase": tokenizer.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": tokenizer_files.write_template(template),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unk_token,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": tokenizer.max_characters_per_word,
            "vocab": {token: i for i, token in enumerate(tokenizer.pieces)},
        },
    }

"""Reads and writes the post-processor of a tokenizer.json, which puts special tokens around texts.

Source: tokenizers, `BertProcessing`, `RobertaProcessing` and `TemplateProcessing`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.options import Packing, TokenizerOptions

_ROBERTA_FLAGS = ("trim_offsets", "add_prefix_space")
_KEYS = {
    "BertProcessing": {"type", "sep", "cls"},
    "RobertaProcessing": {"type", "sep", "cls", *_ROBERTA_FLAGS},
    "TemplateProcessing": {"type", "single", "pair", "special_tokens"},
}


@dataclass(frozen=True)
class Template:
    """The special tokens around segments, as a post-processor sets them.

    Attributes:
        cls_token, sep_token: str.
        packing: Packing.
        ids: pairs of token and id, for `cls_token` and `sep_token`.
        trim_offsets: bool. Exclude whitespace from the offsets.
        add_prefix_space: bool. With `trim_offsets`: keep the space before the first token.
    """

    cls_token: str
    sep_token: str
    packing: Packing
    ids: tuple[tuple[str, int], ...]
    trim_offsets: bool = False
    add_prefix_space: bool = False

    def check_ids(self, ids: Mapping[str, int], path: pathlib.Path) -> None:
        """Raises ConfigError if the ids differ from those of the vocabulary."""
        for token, token_id in self.ids:
            if ids.get(token) != token_id:
                raise ConfigError(
                    f"Expected the vocabulary's id {ids.get(token)} for {token!r:.80} in the "
                    f"post_processor of {path}, received {token_id!r:.80}. The vocabulary may "
                    "belong to another model."
                )


def template_of(
    options: TokenizerOptions, *, trim_offsets: bool = False, add_prefix_space: bool = False
) -> Template:
    """Returns the template of a tokenizer's options, whose added tokens have ids."""
    ids = {token.content: token.id or 0 for token in options.added_tokens}
    tokens = options.cls_token, options.sep_token
    return Template(
        *tokens,
        options.packing,
        tuple((token, ids[token]) for token in tokens),
        trim_offsets,
        add_prefix_space,
    )


def read_template(processor: Any, path: pathlib.Path) -> Template | None:
    """Reads the post-processor of a tokenizer.json; None stays None.

    Raises:
        ConfigError: it packs segments in a way that `Packing` does not support.
    """
    if processor is None:
        return None
    try:
        template = _template(processor)
        if template is not None and not _is_valid(template):
            template = None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        template = None
    if template is None:
        raise ConfigError(
            "Expected a post_processor for [CLS] a [SEP] and [CLS] a [SEP] b [SEP], with one or "
            f"two [SEP] between a and b, in {path}, received {processor!r:.200}."
        )
    return template


def _is_valid(template: Template) -> bool:
    """Returns whether the tokens, ids, segments and flags have the right types."""
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
    if set(processor) - _KEYS.get(kind, set()):
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
            (part["id"], part["type_id"], part_type)
            for entry in processor[key]
            for part_type, part in entry.items()
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
    token_ids = []
    for token in dict.fromkeys((cls, sep)):
        (token_id,) = processor["special_tokens"][token]["ids"]
        token_ids.append((token, token_id))
    return Template(cls, sep, Packing(between, second, cls_segment), tuple(token_ids))


def write_template(template: Template) -> dict[str, Any]:
    """Returns the post-processor for a tokenizer.json."""
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

"""vocab.txt, read as transformers reads it: the number of a line is the id of its token.

Files by hand and by other tools have oddities, none of which may move an id. White space at the end
of a line is not the token's. Of a token on several lines the last counts, and the ids of the others
belong to no text. Blank lines have ids, which belong to no text either.

Source: transformers 5.24, BertTokenizer; tokenizers 0.23, `WordPiece.read_file`.
"""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text import tokenizer_files

_logger = logging.getLogger(__name__)

# What Rust's `trim_end` takes off a line: Unicode's White_Space, which is not Python's.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_MARK = "\ufeff"
_LISTED = 3  # tokens in a warning


def read_vocabulary(path: str | os.PathLike[str], *, rows: int | None = None) -> list[str]:
    """The tokens of a vocab.txt, one a line, with a warning where the file is odd.

    Args:
        path: of the file.
        rows: int or None. The rows of the model's token embedding: blank lines at the end that have
            none are left out. None: they are kept.

    Returns:
        list of str, each token once. An id that belongs to no text has a name with a space in it.

    Raises:
        ConfigError: the file is missing, empty or not UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "vocab.txt")
    ...     _ = path.write_text("[PAD] [UNK] cat ##s".replace(" ", os.linesep))
    ...     read_vocabulary(path)
    ['[PAD]', '[UNK]', 'cat', '##s']
    """
    lines = tokenizer_files.read_lines(path, "a vocabulary")
    notes = []
    if lines and lines[0].startswith(_MARK):
        lines[0] = lines[0].removeprefix(_MARK)
        notes.append(
            "the byte-order mark at its beginning is left out (transformers takes it as a part of "
            "the first token)"
        )
    tokens = [line.rstrip(_WHITE_SPACE) for line in lines]
    if not any(tokens):
        found = "blank lines" if tokens else "no line"
        raise ConfigError(f"expected a vocabulary of one token a line at {path}, got {found}")
    if len(tokens) - len(set(tokens)) > tokenizer_files.GAPS_LIMIT:
        raise ConfigError(
            f"expected a vocabulary at {path}, got more than {tokenizer_files.GAPS_LIMIT:,} blank "
            "and repeated lines, which no vocabulary has"
        )
    given = len(tokens)
    while rows is not None and len(tokens) > rows and not tokens[-1]:
        tokens.pop()
    last = {token: i for i, token in enumerate(tokens)}
    twice = {token: i for i, token in enumerate(tokens) if token and last[token] != i}
    if blank := tokens.count(""):
        keep = "line keeps its id" if blank == 1 else "lines keep their ids"
        notes.append(f"{blank:,} blank {keep}, as in transformers")
    if left_out := given - len(tokens):
        ends = "line at the end is" if left_out == 1 else "lines at the end are"
        notes.append(f"{left_out:,} blank {ends} left out: the model has {rows:,} token embeddings")
    if twice:
        shown = [
            f"{token!r:.80} on lines {i + 1} and {last[token] + 1}"
            for token, i in list(twice.items())[:_LISTED]
        ]
        more = f" and {len(twice) - _LISTED:,} more" if len(twice) > _LISTED else ""
        notes.append(
            "some tokens are on several lines, and the last one counts, as in transformers "
            f"({', '.join(shown)}{more})"
        )
    if notes:
        warn_once(
            _logger,
            f"{path}: {'; '.join(notes)}. Remove no line: a line's number is its token's id.",
        )
    return tokenizer_files.fill_gaps(
        {token: i for i, token in enumerate(tokens) if last[token] == i}, len(tokens)
    )


def is_safe_in_lines(tokens: Sequence[str]) -> bool:
    """Whether a vocab.txt of these tokens, in their order, is read as the same tokens.

    >>> is_safe_in_lines(["[PAD]", "cat"]), is_safe_in_lines(["[PAD]", "cat "])
    (True, False)
    """
    return (
        not tokens[0].startswith(_MARK)
        and tokens[-1] != ""
        and not any("\n" in token or token != token.rstrip(_WHITE_SPACE) for token in tokens)
    )


def vocabulary_of(folder: pathlib.Path, fast: list[str] | None) -> list[str]:
    """The pieces of a directory's vocab.txt or tokenizer.json, which must not differ.

    Args:
        folder: the directory.
        fast: the pieces of its tokenizer.json, or None.

    Raises:
        ConfigError: there is neither, or they differ.
    """
    path = folder / "vocab.txt"
    if not tokenizer_files.is_there(path):
        if fast is None:
            raise ConfigError(f"expected vocab.txt or tokenizer.json in {folder}, found neither")
        return fast
    vocabulary = read_vocabulary(path, rows=_rows(folder))
    if fast not in (None, vocabulary):
        raise ConfigError(
            f"expected the same vocabulary in vocab.txt and tokenizer.json in {folder}, "
            f"got {len(vocabulary)} and {len(fast or [])} tokens that differ; "
            "delete the file that does not belong to the model"
        )
    return vocabulary


def _rows(folder: pathlib.Path) -> int | None:
    """The rows of the token embedding of the model in a directory, where a config says it."""
    for name in ("config.json", *GOOGLE_CONFIGS):
        size: Any = tokenizer_files.read_json(folder / name).get("vocab_size")
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None

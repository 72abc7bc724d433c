"""Reads vocab.txt as transformers does: the number of a line is the id of its token.

Irregular lines keep their ids. Whitespace at the end of a line is not part of the token. If several
lines have the same token, its id is the last line's; the other ids match no text. The ids of blank
lines match no text either.

Source: transformers 5.24, BertTokenizer; tokenizers 0.23, `WordPiece.read_file`.
"""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Sequence

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text.tokenizer_config import embedding_rows
from keras_bert_zoo.text.vocabulary_files import GAPS_LIMIT, exists, fill_gaps, read_lines

_logger = logging.getLogger(__name__)

# Rust's `trim_end` removes Unicode's White_Space, which differs from Python's.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_BYTE_ORDER_MARK = "\ufeff"
_TOKENS_SHOWN = 3  # in a warning


def read_vocabulary(path: str | os.PathLike[str], *, rows: int | None = None) -> list[str]:
    """Reads the tokens of a vocab.txt, one a line; warns about irregular lines.

    Args:
        path: the file.
        rows: int or None. Rows of the model's token embedding. Blank lines at the end of the file
            are dropped if the embedding has no row for them. None keeps them.

    Returns:
        list of str, each token once. An id that matches no text has a name with a space.

    Raises:
        ConfigError: the file is missing, empty or not UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "vocab.txt")
        ...     _ = path.write_text("[PAD] [UNK] cat ##s".replace(" ", os.linesep))
        ...     read_vocabulary(path)
        ['[PAD]', '[UNK]', 'cat', '##s']
    """
    lines = read_lines(path, "a vocabulary")
    notes = []
    if lines and lines[0].startswith(_BYTE_ORDER_MARK):
        lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        notes.append(
            "the byte-order mark at the beginning is ignored (transformers makes it a part of the "
            "first token)"
        )
    tokens = [line.rstrip(_WHITE_SPACE) for line in lines]
    if not any(tokens):
        content = "blank lines" if tokens else "no line"
        raise ConfigError(
            f"Expected a vocabulary of one token a line at {path}, received {content}."
        )
    if len(tokens) - len(set(tokens)) > GAPS_LIMIT:
        raise ConfigError(
            f"Expected at most {GAPS_LIMIT:,} blank and repeated lines in the vocabulary at {path},"
            " received more. The file is no vocabulary."
        )
    count = len(tokens)
    while rows is not None and len(tokens) > rows and not tokens[-1]:
        tokens.pop()
    last = {token: i for i, token in enumerate(tokens)}
    repeated = {token: i for i, token in enumerate(tokens) if token and last[token] != i}
    if blank := tokens.count(""):
        keeps = "line keeps its id" if blank == 1 else "lines keep their ids"
        notes.append(f"{blank:,} blank {keeps}, as in transformers")
    if dropped := count - len(tokens):
        ends = "line at the end is" if dropped == 1 else "lines at the end are"
        notes.append(f"{dropped:,} blank {ends} dropped: the model has {rows:,} token embeddings")
    if repeated:
        shown = [
            f"{token!r:.80} on lines {i + 1} and {last[token] + 1}"
            for token, i in list(repeated.items())[:_TOKENS_SHOWN]
        ]
        rest = len(repeated) - _TOKENS_SHOWN
        more = f" and {rest:,} more" if rest > 0 else ""
        notes.append(
            "some tokens are repeated, and the last line sets the id, as in transformers "
            f"({', '.join(shown)}{more})"
        )
    if notes:
        warn_once(
            _logger,
            f"{path}: {'; '.join(notes)}. Do not remove a line: its number is the token's id.",
        )
    return fill_gaps({token: i for i, token in enumerate(tokens) if last[token] == i}, len(tokens))


def is_safe_in_lines(tokens: Sequence[str]) -> bool:
    """Returns whether a vocab.txt of these tokens is read as the same tokens.

    Example:
        >>> is_safe_in_lines(["[PAD]", "cat"]), is_safe_in_lines(["[PAD]", "cat "])
        (True, False)
    """
    return (
        not tokens[0].startswith(_BYTE_ORDER_MARK)
        and tokens[-1] != ""
        and not any("\n" in token or token != token.rstrip(_WHITE_SPACE) for token in tokens)
    )


def directory_vocabulary(folder: pathlib.Path, fast: list[str] | None) -> list[str]:
    """Returns the pieces of a directory's vocab.txt or tokenizer.json.

    Args:
        folder: the directory.
        fast: the pieces of its tokenizer.json, or None.

    Raises:
        ConfigError: the directory has neither file, or their pieces differ.
    """
    path = folder / "vocab.txt"
    if not exists(path):
        if fast is None:
            raise ConfigError(
                f"Expected vocab.txt or tokenizer.json in {folder}, received neither. Copy one "
                "from the checkpoint."
            )
        return fast
    rows = embedding_rows(folder)
    vocabulary = read_vocabulary(path, rows=rows[0] if rows and rows[0] > 0 else None)
    if fast not in (None, vocabulary):
        raise ConfigError(
            f"Expected the same vocabulary in vocab.txt and tokenizer.json in {folder}, received "
            f"{len(vocabulary)} and {len(fast or [])} tokens that differ. Delete the file that "
            "does not belong to the model."
        )
    return vocabulary

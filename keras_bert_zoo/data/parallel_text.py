"""Reading texts with their translations: a table, or two files of as many lines."""

from __future__ import annotations

import os
from typing import Any

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["read_parallel", "two_files"]


def read_parallel(
    path: str, *, text: str = "text", translation: str = "translation", **table: Any
) -> Examples:
    """Reads texts with their translations.

    Args:
        path: a table, CSV, TSV or JSON Lines; or two files with a comma between their names,
            `corpus.en,corpus.zh`, where line n of one is the translation of line n of the other
            (the form of Moses and OPUS). A `.gz` behind any name is allowed.
        text: str. The table's column of the text.
        translation: str. Its column of the translation.
        **table: `format`, `delimiter`, `columns` and `encoding`, see `read_table`; `encoding` alone
            of two files.

    Returns:
        Examples with `text_pairs`, the translations.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: with file and line: a row without one of the columns; two files of different
            lengths; bytes that are not of the encoding.
    """
    files = two_files(path)
    if files is None:
        return read_table(path, text=text, text_pair=translation, label=None, **table)
    unused = [name for name in ("format", "delimiter", "columns") if table.get(name) is not None]
    if unused:
        raise ConfigError(
            f"`{unused[0]}` is for a table, got two files of lines: {files[0]} and {files[1]}"
        )
    encoding = table.get("encoding") or "utf-8"
    texts, translations = (
        [line.rstrip("\r\n") for line in Lines(file, file, encoding)] for file in files
    )
    if len(texts) != len(translations):
        short, long = sorted(zip((len(texts), len(translations)), files, strict=True))
        raise DataError(
            f"{short[1]}:{short[0] + 1}: expected a line for each of {long[1]}, which has "
            f"{long[0]:,}; there are {short[0]:,}"
        )
    if not texts:
        raise DataError(f"{files[0]}: there are no lines")
    return Examples(texts, translations, path=files[0])


def two_files(path: str) -> tuple[str, str] | None:
    """The two files that a path names with a comma between them; None: it is one."""
    first, comma, second = path.partition(",")
    if not comma or not first or not second or "," in second or os.path.exists(path):
        return None
    return first, second

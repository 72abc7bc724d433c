"""Readers of texts with their translations: a table, or two files with parallel lines."""

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
        path: str. A table (CSV, TSV or JSON Lines); or two file names separated by a comma,
            `corpus.en,corpus.zh`, as in Moses and OPUS: line n of the second file is the
            translation of line n of the first. All files may be gzipped (`.gz`).
        text: str. The column of the text in a table.
        translation: str. The column of the translation in a table.
        **table: `format`, `delimiter`, `columns` and `encoding`, see `read_table`; for two files
            only `encoding`.

    Returns:
        Examples; `text_pairs` are the translations.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: a row lacks a column, two files differ in length, or bytes are invalid in the
            encoding; the message names file and line.
    """
    files = two_files(path)
    if files is None:
        return read_table(path, text=text, text_pair=translation, label=None, **table)
    unused = [name for name in ("format", "delimiter", "columns") if table.get(name) is not None]
    if unused:
        raise ConfigError(
            f"expected a table for the option `{unused[0]}`, "
            f"received two files of lines: {files[0]} "
            f"and {files[1]}"
        )
    encoding = table.get("encoding") or "utf-8"
    texts, translations = (
        [line.rstrip("\r\n") for line in Lines(file, file, encoding)] for file in files
    )
    if len(texts) != len(translations):
        short, long = sorted(zip((len(texts), len(translations)), files, strict=True))
        raise DataError(
            f"{short[1]}:{short[0] + 1}: expected {long[0]:,} lines, as in {long[1]}, received "
            f"{short[0]:,}"
        )
    if not texts:
        raise DataError(f"{files[0]}: expected at least one line, received none")
    return Examples(texts, translations, path=files[0])


def two_files(path: str) -> tuple[str, str] | None:
    """Splits a path of two file names separated by a comma; None for a single name."""
    first, comma, second = path.partition(",")
    if not comma or not first or not second or "," in second or os.path.exists(path):
        return None
    return first, second

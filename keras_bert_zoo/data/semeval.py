"""Texts with two marked entities and the relation between them.

In the format of SemEval-2010 task 8, an example has a line with a number, a tab and the text in
double quotes, a line with the relation, a line `Comment:` and an empty line:

```
1 (tab) "The <e1>author</e1> of a keygen uses a <e2>disassembler</e2> to look at the raw code."
Instrument-Agency(e2,e1)
Comment:
```
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.errors import DataError

__all__ = ["MARKERS", "check_markers", "marker_fault", "read_semeval"]

MARKERS = ("<e1>", "</e1>", "<e2>", "</e2>")
"""The markers before and after the first and the second entity."""

_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
_SENTENCE = re.compile(r'(\d+)\t"(.*)"\s*')
_COMMENT = re.compile(r"comment\s*:", re.IGNORECASE)


def marker_fault(text: str) -> str | None:
    """Returns the first error in the entity markers of a text; None without one.

    >>> marker_fault("The <e1>author</e1> of a <e2>book</e2>")
    >>> marker_fault("The <e1>author</e1> of a book")
    'expected <e2> once, received it 0 times'
    """
    markers = _MARKER.findall(text)
    for marker in MARKERS:
        if markers.count(marker) != 1:
            return f"expected {marker} once, received it {markers.count(marker)} times"
    for opening, closing in (MARKERS[:2], MARKERS[2:]):
        if markers.index(closing) < markers.index(opening):
            return f"expected {opening} before {closing}, received it after {closing}"
        if markers.index(closing) != markers.index(opening) + 1:
            between = markers[markers.index(opening) + 1]
            return f"expected separate entities, received {between} within {opening}"
        if not text[text.index(opening) + len(opening) : text.index(closing)].strip():
            return f"expected text between {opening} and {closing}, received none"
    return None


def check_markers(examples: Examples) -> Examples:
    """Checks that every text has both entities marked.

    Args:
        examples: Examples.

    Returns:
        `examples`.

    Raises:
        DataError: markers are missing, repeated, nested or out of order; with file and line.
    """
    for index, text in enumerate(examples.texts):
        fault = marker_fault(text)
        if fault is not None:
            raise DataError(
                f"{examples.where(index)}: {fault}; each text needs {''.join(MARKERS[:2])} around "
                f"its first and {''.join(MARKERS[2:])} around its second entity: {clipped(text)!r}"
            )
    return examples


def read_semeval(
    path: str | os.PathLike[str] | BinaryIO, *, labelled: bool = True, encoding: str = "utf-8"
) -> Examples:
    """Reads a file of SemEval-2010 task 8, plain or gzipped.

    The line `Comment:` of an example may be missing; see the module for the format.

    Args:
        path: the file's name, or a binary file object.
        labelled: bool. Whether to read relations; if False, they are ignored and may be missing.
        encoding: str.

    Returns:
        Examples: texts with their markers, without the quotes; `rows` are the texts' lines.

    Raises:
        DataError: a line has another form, a number is repeated, a relation is missing, or
            `check_markers` fails; the message names file and line.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else getattr(path, "name", "")
    lines = Lines(path, str(name or "<stream>"), encoding)
    texts: list[str] = []
    labels: list[str] = []
    rows: list[int] = []
    numbers: dict[str, int] = {}
    state = "text"  # the expected line: text, relation, comment or empty
    for raw in lines:
        line = raw.rstrip("\r\n")
        where = f"{lines.name}:{lines.last}"
        if not line.strip():
            if state == "relation" and labelled:
                raise DataError(
                    f"{where}: expected a relation after its text, received an empty line"
                )
            state = "text"
            continue
        sentence = _SENTENCE.fullmatch(line)
        if sentence and (state == "text" or not labelled):
            number, text = sentence.groups()
            if number in numbers:
                raise DataError(
                    f"{where}: expected a new number, "
                    f"received {number} as on line {numbers[number]}"
                )
            numbers[number] = lines.last
            texts.append(text)
            rows.append(lines.last)
            state = "relation"
        elif state == "relation" and not sentence and not _COMMENT.match(line):
            label = line.strip()
            if len(label.split()) != 1:
                raise DataError(
                    f"{where}: expected a relation such as Cause-Effect(e1,e2) or Other, "
                    f"received {clipped(line)!r}"
                )
            labels.append(label)
            state = "comment"
        elif state == "comment" and _COMMENT.match(line):
            state = "empty"
        elif state in ("comment", "empty") and not sentence:
            raise DataError(
                f"{where}: expected {'Comment: or ' if state == 'comment' else ''}an empty line "
                f"between examples, received {clipped(line)!r}"
            )
        elif sentence:
            what = "a relation" if state == "relation" else "an empty line"
            raise DataError(
                f"{where}: expected {what} after line {rows[-1]}, received another text"
            )
        else:
            raise DataError(
                f"{where}: expected a number, a tab and a text in double quotes, received "
                f"{clipped(line)!r}"
            )
    if state == "relation" and labelled:
        raise DataError(
            f"{lines.name}:{rows[-1]}: expected a relation after this text, received none"
        )
    if not texts:
        raise DataError(f"{lines.name}: expected at least one example, but the file is empty")
    return check_markers(Examples(texts, None, labels if labelled else None, rows, lines.name))

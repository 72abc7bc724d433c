"""Label names that are numbers, and the names of other values."""

import logging
import re

from keras_bert_zoo.data.columns import shown_names

_logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DIGITS = 1000  # Python parses at most 4,300 digits
WHOLE = r"^(-?(?:0|[1-9][0-9]{0,17}))(?:\.0+)?$"
"""A whole number in text; in a column with gaps pandas writes it with a fraction of 0."""


def is_whole(name: str) -> bool:
    """Whether a name is a whole number: "1", "-2", "1.0".

    >>> is_whole("1.0"), is_whole("01"), is_whole("1.5")
    (True, False, False)
    """
    return re.match(WHOLE, name) is not None


def as_number(name: str) -> int | float | None:
    """Converts a name to a number; None for other names."""
    if len(name) > _DIGITS or not _NUMBER.fullmatch(name):
        return None
    return float(name) if "." in name else int(name)


def as_name(value: object) -> str:
    """Converts a value to a name."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return str(value)
    except ValueError:  # an integer of more than 4,300 digits
        return f"<{type(value).__name__} of too many digits>"


def without_duplicates(names: set[str]) -> set[str]:
    """Drops "1.0" if "1" is also a name: pandas writes integers so in a column with gaps."""
    duplicates = {name for name in names if "." in name and is_whole(name)}
    duplicates = {name for name in duplicates if name.partition(".")[0] in names}
    if duplicates:
        _logger.warning(
            "The labels %s are read as the same numbers without a fraction.",
            shown_names(sorted(duplicates)),
        )
    return names - duplicates

"""The side file of a saved task."""

from __future__ import annotations

import json
import os
from typing import Any

from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE


def read_side_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a directory's side file; an empty dict where there is none.

    Raises:
        CheckpointError: it is not a JSON object.
    """
    path = os.path.join(directory, SIDE_FILE)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            side = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(side, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(side).__name__}.")
    return side

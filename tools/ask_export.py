#!/usr/bin/env python3
"""Asks an exported model, as whoever serves it does: with tensorflow and tensorflow_text alone.

    python tools/ask_export.py saved_models/NAME/VERSION "My card has not arrived yet" ...

Prints the label of a classifier, or the documents that a search found, with their scores.

Given saved_models/NAME, the newest version answers, as in TensorFlow Serving.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Before TensorFlow is imported, which otherwise tells about itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Mutes what TensorFlow's C++ side tells about itself before it heeds a log level."""
    with open(os.devnull, "wb") as nothing:
        stderr = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def newest_version(directory: Path) -> Path:
    """The folder that holds the SavedModel."""
    if (directory / "saved_model.pb").exists():
        return directory
    versions = [path for path in directory.glob("*") if path.name.isdigit()]
    if not versions:
        sys.exit(f"ask_export.py: {directory} holds no SavedModel and no version of one")
    return max(versions, key=lambda path: int(path.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", nargs="+")
    arguments = parser.parse_args()
    model = newest_version(arguments.model)

    with quiet_stderr():
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

        tf.config.list_logical_devices()
    answer = tf.saved_model.load(str(model)).signatures["serving_default"]
    answers = answer(text=tf.constant(arguments.text))
    found = answers["document" if "document" in answers else "label"].numpy()
    for text, labels, scores in zip(arguments.text, found, answers["score"].numpy(), strict=True):
        print(text)
        for label, score in zip(np.atleast_1d(labels), np.atleast_1d(scores), strict=True):
            print(f"    -> {label.decode()} ({score:.3f})")
    foreign = sorted({name.split(".")[0] for name in sys.modules} & {"keras_bert_zoo"})
    print(f"imported: tensorflow {tf.__version__}, tensorflow_text; not keras_bert_zoo")
    if foreign:
        sys.exit(f"ask_export.py: {foreign} was imported, too")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs an exported model as a server does, with only tensorflow and tensorflow_text.

    python tools/ask_export.py saved_models/NAME/VERSION "My card has not arrived yet" ...

Prints the label of a classifier, or the documents of a search, with their scores. Of other exports
of single texts, it prints all outputs.

For saved_models/NAME the newest version is used, as in TensorFlow Serving.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Set before the import of TensorFlow, which logs otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards the log messages of TensorFlow's C++ code, which ignore the log level."""
    with open(os.devnull, "wb") as null:
        stderr = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def newest_version(directory: Path) -> Path:
    """The folder of the SavedModel."""
    if (directory / "saved_model.pb").exists():
        return directory
    versions = [path for path in directory.glob("*") if path.name.isdigit()]
    if not versions:
        sys.exit(f"ask_export.py: expected a SavedModel or its versions in {directory}, found none")
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
    inputs = sorted(answer.structured_input_signature[1])
    if inputs != ["text"]:
        sys.exit(f"ask_export.py: expected an export of single texts; {model} takes {inputs}")
    answers = {k: v.numpy() for k, v in answer(text=tf.constant(arguments.text)).items()}
    name = "document" if "document" in answers else "label"
    for index, text in enumerate(arguments.text):
        print(text)
        if name in answers and "score" in answers:
            pair = np.atleast_1d(answers[name][index]), np.atleast_1d(answers["score"][index])
            for label, score in zip(*pair, strict=True):
                print(f"    -> {label.decode()} ({score:.3f})")
            continue
        for output in sorted(answers):
            values = np.array2string(answers[output][index], precision=3, threshold=8)
            print(f"    {output}: {values}")
    foreign = sorted({name.split(".")[0] for name in sys.modules} & {"keras_bert_zoo"})
    print(f"imported: tensorflow {tf.__version__}, tensorflow_text; not keras_bert_zoo")
    if foreign:
        sys.exit(f"ask_export.py: {foreign} must not be imported")


if __name__ == "__main__":
    main()

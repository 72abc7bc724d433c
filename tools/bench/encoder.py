"""Speed of the encoder from token ids, full batches: same weights, same ids, one run.

    python tools/bench/encoder.py [--preset NAME_OR_DIR] [--batch-size 32] [--length 128]
    python tools/bench/encoder.py --data DIR

All engines compute the encoder's output for rows without padding. This package runs as a Keras
model in both token layouts, and as an export in a session. The peers are keras-hub's BertBackbone,
and transformers, ONNX Runtime and OpenVINO, which need the extra `parity`. With --data, a folder as
for serving.py, there are also int8 engines, calibrated on 200 of its texts.

The engines take turns. The values are the median time, the rows per second, the speed relative to
transformers in torch with bfloat16, and the least cosine to float32 of the mean of a row's states.
Times of different runs are not comparable.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import transformers
from peers import peer_runs, unit_mean
from serving import calibration_texts
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz
from keras_bert_zoo.export.session import ExportSession
from keras_bert_zoo.presets.resolve import find_preset

REFERENCE = "transformers, torch bfloat16"
Inputs = dict[str, np.ndarray]


def keras_engine(model: keras.Model, inputs: Inputs) -> Callable[[], np.ndarray]:
    """A Keras model as one graph function, to the mean of the states (rows, width)."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    function = tf.function(lambda batch: model(batch, training=False)["sequence_output"])
    mask = inputs["padding_mask"]
    return lambda: unit_mean(function(tensors).numpy().astype(np.float32), mask)


def keras_engines(directory: str, inputs: Inputs) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """keras-hub and this package's encoder, in both precisions."""
    for dtype, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16")):
        hub = keras_hub.models.BertBackbone.from_preset(directory, dtype=policy)
        yield f"keras-hub {dtype}", keras_engine(hub, inputs)
        for layout in ("packed", "padded"):
            encoder = kbz.Encoder.from_preset(directory, dtype=policy, token_layout=layout)
            yield f"this package, Keras, {layout}, {dtype}", keras_engine(encoder, inputs)


def export_engines(
    directory: str, folder: Path, inputs: Inputs, calibration: list[str]
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Exports of this package in sessions, which take token ids."""
    task = kbz.TextEmbedder.from_preset(directory, max_length=inputs["token_ids"].shape[1])
    for dtype in ("float32", "bfloat16", "int8") if calibration else ("float32", "bfloat16"):
        more = {"calibration": calibration} if dtype == "int8" else {}
        path = task.export(folder / dtype, dtype=dtype, **more).path
        session = ExportSession(path, signature="tokens")
        batch = {name: inputs[name] for name in session.inputs}
        yield (
            f"this package, export, {dtype}",
            lambda session=session, batch=batch: session.run(batch)["embedding"],
        )
    task.save(folder / "huggingface")


def peer_engines(
    folder: Path, inputs: Inputs, calibration: list[str]
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """The other peers."""
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names |= {"padding_mask": "attention_mask"}
    batch = {names[name]: value.astype(np.int64) for name, value in inputs.items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batches = [
        dict(tokenizer([text], truncation=True, max_length=256, return_tensors="np"))
        for text in calibration
    ]
    runs = peer_runs(folder, transformers.AutoModel, batch, calibration=batches)
    mask = inputs["padding_mask"]
    for name, run in runs.items():
        name = f"transformers, {name}" if name.startswith("torch") else name
        yield name, lambda run=run: unit_mean(np.asarray(run(batch), np.float32), mask)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--data", type=Path, help="texts to calibrate int8 engines")
    add_json_option(parser)
    options = parser.parse_args()

    directory = str(find_preset(options.preset))
    vocabulary = kbz.Tokenizer.from_preset(directory).vocabulary_size
    shape = (options.batch_size, options.length)
    ids = np.random.default_rng(0).integers(1000, vocabulary, shape).astype(np.int32)
    inputs = {
        "token_ids": ids,
        "segment_ids": np.zeros(shape, np.int32),
        "padding_mask": np.ones(shape, np.int32),
    }
    calibration = calibration_texts(options.data) if options.data else []
    with tempfile.TemporaryDirectory() as folder:
        engines = dict(export_engines(directory, Path(folder), inputs, calibration))
        engines |= dict(keras_engines(directory, inputs))
        engines |= dict(peer_engines(Path(folder, "huggingface"), inputs, calibration))
    answers = {name: [run() for _ in range(3)][-1] for name, run in engines.items()}
    seconds = take_turns(engines, options.rounds)
    exact = answers["transformers, torch float32"]
    base = np.median(seconds[REFERENCE])
    rows = {}
    for name, times in seconds.items():
        median = np.median(times)
        cosine = float((answers[name] * exact).sum(-1).min())
        rows[name] = [1e3 * median, shape[0] / median, base / median, cosine]
    columns = {"ms": ".0f", "rows/s": ".1f", "times torch bf16": ".2f", "least cosine": ".4f"}
    print(f"{options.preset}, batch {shape[0]}, length {shape[1]}, {options.rounds} rounds")
    report([Table("encoder", "engine", columns, rows, "rows/s", ["rows/s"])], options.json)


if __name__ == "__main__":
    main()

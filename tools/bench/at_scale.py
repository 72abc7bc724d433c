"""The tables of docs/at_scale.md: BERT-base's pretraining on N devices, and checks of the model.

    python tools/bench/at_scale.py [--price 2.5] [--write]
    python tools/bench/at_scale.py --local    measures 1 and 2 replicas of this machine's CPU

The tables need no device. `--write` replaces them in the page. `--price` adds the cost for a price
per device and hour. `--local` trains MiniLM for some steps, and compares the time of a step with
the model: operations over the peak, measured before and after, times the share of one replica.
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.training.cost import training_flops
from keras_bert_zoo.training.model_shapes import model_shapes
from keras_bert_zoo.training.plan import SHARES
from keras_bert_zoo.training.step_time import all_reduce_bytes, step_time

PAGE = Path(__file__).resolve().parents[2] / "docs" / "at_scale.md"

BASE = EncoderConfig()
LARGE = EncoderConfig(hidden_dim=1024, num_layers=24, num_heads=16, intermediate_dim=4096)

# Operations a second in bfloat16 or float16 without sparsity, and bytes a second that a device
# sends inside of a machine and that a machine sends to others: vendors' data sheets.
DEVICES = {
    "NVIDIA A100": (312e12, 300e9, 200e9, 8),
    "NVIDIA H100 SXM": (989e12, 450e9, 400e9, 8),
    "NVIDIA V100": (125e12, 150e9, 100e9, 16),
    "Google TPU v5e": (197e12, 200e9, 200e9, 256),
    "Google TPU v2": (45e12, 62e9, 62e9, 256),
    "CPU host of 1 TFLOP/s": (1e12, math.inf, 1.25e9, 1),
}
# Of the data sheet's peak. The first published run below gives that of accelerators, and all other
# rows use it. That of CPUs is measured, of the measured peak.
SHARE_CPU = SHARES["CPU"]


def predictions(length):
    """Tokens to predict per row in google-research/bert: 20 of 128, 80 of 512."""
    return {128: 20, 512: 80}[length]


def flops(config, rows, length, *, predicted=None):
    """Operations of a step of masked language modelling on rows of one length."""
    count = predictions(length) if predicted is None else predicted
    return rows * training_flops(config, [length], head="masked_lm", predicted=count)


def measured_share():
    """The share of an A100's peak in NVIDIA's run of BERT large, phase 1, on one GPU."""
    return 485.59 * flops(LARGE, 1, 128) / DEVICES["NVIDIA A100"][0]


def predict(config, device, count, rows, length, *, predicted=None, dense_tables=False):
    """StepTime of a step on devices of one kind."""
    peak, inside, outside, per_machine = DEVICES[device]
    model = model_shapes(config, head="masked_lm")
    return step_time(
        flops(config, rows, length, predicted=predicted),
        peak=peak,
        share=SHARE_CPU if device.startswith("CPU") else measured_share(),
        replicas=count,
        bytes_sent=all_reduce_bytes(
            model, count, tokens=rows * length // count, dense_tables=dense_tables
        ),
        link=inside if count <= per_machine else outside,
    )


def table(head, rows):
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def pretraining(price=None):
    """BERT base as published: 900,000 steps at length 128, 100,000 at 512, batches of 256."""
    runs = [
        ("NVIDIA A100", 1), ("NVIDIA A100", 8), ("NVIDIA A100", 32),
        ("NVIDIA H100 SXM", 8), ("NVIDIA H100 SXM", 32),
        ("Google TPU v5e", 8), ("Google TPU v5e", 32),
        ("CPU host of 1 TFLOP/s", 1), ("CPU host of 1 TFLOP/s", 64),
    ]  # fmt: skip
    rows = []
    for device, count in runs:
        short, long = (predict(BASE, device, count, 256, length) for length in (128, 512))
        seconds = 900_000 * short.seconds + 100_000 * long.seconds
        sums = 900_000 * short.all_reduce + 100_000 * long.all_reduce
        hours = count * seconds / 3600
        rows.append([
            device, count, f"{short.seconds:.3g}", f"{long.seconds:.3g}",
            f"{seconds / 86400:,.3g}" if seconds < 1e8 else f"{seconds / 86400:,.0f}",
            f"{100 * sums / seconds:.0f} %", f"{hours:,.0f}",
            *([] if price is None else [f"{price * hours:,.0f}"]),
        ])  # fmt: skip
    head = ["device", "number", "s per step, 128", "s per step, 512", "days",
            "of them sums of gradients", "device-hours"]  # fmt: skip
    return table([*head, *([] if price is None else ["cost"])], rows)


# Published runs: name, model, device, devices, rows per update, length, tokens to predict per row,
# and rows a second.
NVIDIA = "NVIDIA, BERT large"
PUBLISHED = [
    (NVIDIA, LARGE, "NVIDIA A100", 1, 79872, 128, None, 485.59),
    (NVIDIA, LARGE, "NVIDIA A100", 1, 30720, 512, None, 96.52),
    (NVIDIA, LARGE, "NVIDIA A100", 8, 79872, 128, None, 3803.82),
    (NVIDIA, LARGE, "NVIDIA A100", 8, 30720, 512, None, 749.73),
    (NVIDIA, LARGE, "NVIDIA A100", 64, 79872, 128, None, 29711.11),
    (NVIDIA, LARGE, "NVIDIA A100", 64, 30720, 512, None, 5870.83),
    (NVIDIA, LARGE, "NVIDIA A100", 256, 79872, 128, None, 110280.73),
    (NVIDIA, LARGE, "NVIDIA A100", 256, 30720, 512, None, 22506.23),
    (NVIDIA, LARGE, "NVIDIA V100", 16, 61440, 128, None, 3528.51),
    (NVIDIA, LARGE, "NVIDIA V100", 64, 61440, 128, None, 13370.21),
    (NVIDIA, LARGE, "NVIDIA V100", 512, 61440, 128, None, 84223.16),
    ("MosaicML, BERT base", BASE, "NVIDIA A100", 8, 4096, 128, 19, 286_720_000 / (11.5 * 3600)),
    ("Google, BERT base", BASE, "Google TPU v2", 16, 256, 128, None, None),
]


def google_days():
    """The predicted days of the run of the paper, on 16 chips of TPU v2."""
    short, long = (predict(BASE, "Google TPU v2", 16, 256, length) for length in (128, 512))
    return (900_000 * short.seconds + 100_000 * long.seconds) / 86400


def checks():
    """Published speeds, those of the model, and the error of the model."""
    rows = []
    for name, config, device, count, batch, length, predicted, speed in PUBLISHED:
        if speed is None:
            days = google_days()
            # Both are times here, so the error of the speed is the inverse.
            rows.append([name, device, count, "both", "4 days", f"{days:.2g} days",
                         f"{100 * (4 / days - 1):+.0f} %"])  # fmt: skip
            continue
        step = predict(config, device, count, batch, length, predicted=predicted, dense_tables=True)
        modelled = batch / step.seconds
        error = 0 if (name, count, length) == (NVIDIA, 1, 128) else modelled / speed - 1
        shown = "0 (fitted)" if error == 0 else f"{100 * error:+.0f} %"
        rows.append([name, device, count, length, f"{speed:,.0f}", f"{modelled:,.0f}", shown])
    head = ["run", "device", "number", "length", "published rows/s", "model", "error"]
    return table(head, rows)


def tables():
    """Name -> table, of all tables on the page."""
    return {"pretraining": pretraining(), "checks": checks()}


def replaced(text):
    """The page with the tables of this module, between their marks."""
    for name, content in tables().items():
        mark = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text, count = re.subn(mark, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        assert count == 1, name
    return text


def train_locally(replicas, rows, length, steps):
    """Runs in a new process; prints the operations, the peak and the seconds of each step."""
    from keras_bert_zoo.training.strategies import make_strategy

    name = "mirrored" if replicas > 1 else "default"
    strategy = make_strategy(name, replicas=replicas if replicas > 1 else None)
    import keras

    import keras_bert_zoo as kbz
    from keras_bert_zoo.training.cost import measured_peak

    class Times(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.perf_counter())

    with strategy.scope():
        task = kbz.TextClassifier.from_preset(
            "minilm_l6_en_uncased", labels=["a", "b"], max_length=length
        )
    texts = ["card " * length] * (rows * steps)
    times = Times()
    before = measured_peak("float32")
    task.fit(texts, ["a", "b"] * (len(texts) // 2), epochs=1, batch_size=rows, verbose=0,
             callbacks=[times])  # fmt: skip
    measured_peak.cache_clear()
    after = measured_peak("float32")
    count = training_flops(task.encoder.config, [length] * rows, head="classification", units=2)
    seconds = [b - a for a, b in zip(times.times[2:-1], times.times[3:], strict=True)]
    print(count, (before + after) / 2, *seconds)


def local(rounds=3):
    """Measures 1 and 2 replicas in turns; prints the share of the peak and the ratio of times."""
    shares, medians = {1: [], 2: []}, {1: [], 2: []}
    for _ in range(rounds):
        for replicas in (1, 2):
            command = [sys.executable, __file__, "--train", str(replicas)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            count, peak, *seconds = map(float, done.stdout.split())
            medians[replicas].append(statistics.median(seconds))
            shares[replicas].append(count / peak / medians[replicas][-1])
    for replicas in (1, 2):
        print(f"{replicas} replicas: s per step {medians[replicas]}, share {shares[replicas]}")
    ratios = [b / a for a, b in zip(medians[1], medians[2], strict=True)]
    print(f"time of 2 replicas over that of 1, same batch: {ratios}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--price", type=float, help="price of a device and hour")
    parser.add_argument("--write", action="store_true", help="replace the tables of the page")
    parser.add_argument("--local", action="store_true", help="measure this machine")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_locally(options.train, rows=16, length=64, steps=12)
    elif options.local:
        local()
    elif options.write:
        PAGE.write_text(replaced(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(f"share of the peak: {measured_share():.3f}\n\n{pretraining(options.price)}")
        print(f"\n{checks()}")


if __name__ == "__main__":
    main()

"""Time and memory against the number of texts: measured for thousands, extrapolated to a million.

    python tools/bench/scale.py --data DIR [--preset NAME_OR_DIR] [--measured 500 1000 2000 4000]

Embeds the texts of serving.py, repeated as needed, in order of arrival and in batches of 32:
with an export in a session, and with transformers in torch, both in bfloat16. Each number of texts
runs in a new process, which reports its seconds, without loading and a first batch, and the peak of
its memory. The time is fitted to the measured points as a linear function of the tokens. Beyond the
measured numbers of texts, the values are those of this function. Memory is not extrapolated: it
grows with the number of different shapes until all have occurred. Needs the extra `parity`.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from memory import peak_memory
from tables import Table, add_json_option, report

BATCH_SIZE, MAX_LENGTH = 32, 256
EXTRAPOLATED = (10_000, 100_000, 1_000_000)
ENGINES = ("this package, bfloat16", "transformers, torch bfloat16")


def run(engine, folder, data, count):
    """Runs in the new process; prints the seconds and the peak memory in MiB."""
    from peers import export_engine, peer_engines, unit_mean
    from serving import read_texts
    from transformers import AutoModel

    texts = list(itertools.islice(itertools.cycle(read_texts(data)), count))
    if engine == ENGINES[0]:
        answer = export_engine(folder / "export" / "1", "embedding")
    else:
        (answer,) = peer_engines(
            folder / "huggingface",
            AutoModel,
            unit_mean,
            max_length=MAX_LENGTH,
            names=["torch bfloat16"],
        ).values()
    answer(texts[:BATCH_SIZE])
    begin = time.perf_counter()
    embeddings = [
        answer(texts[start : start + BATCH_SIZE]) for start in range(0, count, BATCH_SIZE)
    ]
    assert sum(map(len, embeddings)) == count
    print(time.perf_counter() - begin, peak_memory())


def extrapolate(tokens, values, more):
    """Returns the values of a linear fit, and its largest relative error where it was measured."""
    line = np.polynomial.Polynomial.fit(tokens, values, 1)
    return line(np.asarray(more)), float(np.abs(line(np.asarray(tokens)) / values - 1).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--measured", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.run:
        engine, folder, count = options.run
        run(engine, Path(folder), options.data, int(count))
        return

    from serving import read_texts

    import keras_bert_zoo as kbz

    texts = read_texts(options.data)
    task = kbz.TextEmbedder.from_preset(options.preset, max_length=MAX_LENGTH)
    ids = task.tokenizer(texts, max_length=MAX_LENGTH)
    total = np.cumsum(np.asarray(ids["padding_mask"]).sum(-1))
    cycles, rest = np.divmod(np.array([*options.measured, *EXTRAPOLATED]), len(texts))
    tokens = cycles * total[-1] + np.where(rest, total[rest - 1], 0)
    size = len(options.measured)
    measured = np.zeros((size, len(ENGINES), 2))
    with tempfile.TemporaryDirectory() as folder:
        task.export(f"{folder}/export", dtype="bfloat16")
        task.save(f"{folder}/huggingface")
        for row, count in enumerate(options.measured):
            for column, engine in enumerate(ENGINES):
                command = [sys.executable, __file__, "--data", options.data]
                command += ["--run", engine, folder, count]
                done = subprocess.run(
                    list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True
                )
                measured[row, column] = [float(v) for v in done.stdout.splitlines()[-1].split()]
                print(f"{count:,} texts, {engine}: {done.stdout.strip()}", flush=True)
    fits = [
        extrapolate(tokens[:size], measured[:, column, 0], tokens[size:])
        for column in range(len(ENGINES))
    ]
    print(f"largest relative error of the fits: {max(error for _, error in fits):.1%}")
    seconds = [[*measured[:, column, 0], *values] for column, (values, _) in enumerate(fits)]
    memory = [measured[:, column, 1] for column in range(len(ENGINES))]
    tables = []
    for name, unit, form, columns in (
        ("scale", "s", ",.1f", seconds),
        ("scale_memory", "MiB", ",.0f", memory),
    ):
        rows = {
            f"{count:,}": [float(texts), *map(float, values)]
            for count, texts, *values in zip(
                tokens, [*options.measured, *EXTRAPOLATED], *columns, strict=False
            )
        }
        titles = [f"{engine}, {unit}" for engine in ENGINES]
        forms = {"texts": ",.0f"} | dict.fromkeys(titles, form)
        tables.append(
            Table(name, "tokens", forms, rows, unit, titles, logarithmic=unit == "s", lines=True)
        )
    report(tables, options.json)


if __name__ == "__main__":
    main()

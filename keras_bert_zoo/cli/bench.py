"""keras-bert-zoo bench: measures the latency and throughput of a model or an export."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.saved_task import is_export
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
Measure how long requests of one or several texts take, tokenization included, for texts of several
lengths. A SavedModel runs in a TensorFlow session, as in TensorFlow Serving, and a LiteRT file in
LiteRT's interpreter, on one thread by default. A file of token ids gets one id per word."""

EXAMPLES = """
  keras-bert-zoo bench saved_models/intents
  keras-bert-zoo bench saved_models/intents --threads 1
  keras-bert-zoo bench intents.tflite --threads 2
  keras-bert-zoo bench runs/intents --words 10 --batch-sizes 1 --json
"""

_WORDS = "how do i activate my new card please it has not arrived at my address yet".split()
_WARM_UP = 5  # requests; the first ones prepare kernels
_FEWEST = 10  # requests
_PERCENTILES = (50, 95, 99)
Loaded = tuple[Callable[[Mapping[str, Any]], Any], dict[str, list[int]], dict[str, Any]]

_LINE = "{:>6} {:>6} {:>9} {:>9} {:>9} {:>9}"


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an export (saved_models/NAME or FILE.tflite), or a directory written by "
        "`keras-bert-zoo train`",
    )
    parser.add_argument(
        "--words",
        type=options.positive_int,
        nargs="+",
        default=[10, 50, 200],
        metavar="N",
        help="words per text; longer texts than the model's maximum length are truncated",
    )
    parser.add_argument(
        "--batch-sizes",
        type=options.positive_int,
        nargs="+",
        default=[1, 8, 32],
        metavar="N",
        help="texts per request",
    )
    parser.add_argument(
        "--seconds",
        type=options.positive_float,
        default=3.0,
        metavar="X",
        help="time for each row of the table",
    )
    parser.add_argument(
        "--threads",
        type=options.positive_int,
        metavar="N",
        help="threads of one operation; default: one per core. 1 is often faster for short texts",
    )
    options.add_dtype_option(parser, default=None)
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.export.litert.model_file import is_litert_file
    from keras_bert_zoo.processors import processor

    is_litert = is_litert_file(args.model)
    exported = is_litert or is_export(args.model)
    if exported and args.dtype is not None:
        raise ConfigError(
            f"--dtype applies only to a trained model; {args.model} is an export, whose precision "
            "was chosen when it was written"
        )
    load = _load_litert if is_litert else _load_tensorflow
    answer, shapes, runtime = load(args, exported)
    summary = {
        "model": args.model,
        "processor": processor(),
        **runtime,
        "memory_mib": _memory(),
    }
    if not args.json:
        versions = {"tensorflow": "TensorFlow", "litert": "LiteRT"}
        (name,) = versions.keys() & runtime.keys()
        threads = runtime["threads"]
        show(
            f"{summary['processor']}; {versions[name]} {runtime[name]}; "
            f"{threads} thread{'s' if threads > 1 else ''}"
        )
        show(_LINE.format("words", "texts", "p50 ms", "p95 ms", "p99 ms", "texts/s"))
    rows = []
    for words, count in itertools.product(args.words, args.batch_sizes):
        row = {"words": words, "batch_size": count} | _measure(
            answer, _request(shapes, words, count), args.seconds
        )
        row["texts_per_second"] = round(1e3 * count / row.pop("mean_ms"), 1)
        rows.append(row)
        if not args.json:
            times = (f"{row[f'p{percentile}_ms']:.1f}" for percentile in _PERCENTILES)
            show(_LINE.format(words, count, *times, f"{row['texts_per_second']:.0f}"))
    memory = {"loaded": summary.pop("memory_mib"), "at_the_end": _memory()}
    if args.json:
        print(json.dumps(summary | {"memory_mib": memory, "rows": rows}))
    elif memory["loaded"] is not None:
        show(f"memory: {memory['loaded']} MiB after loading, {memory['at_the_end']} at the end")
    return 0


def _load_litert(args: argparse.Namespace, _: bool) -> Loaded:
    """`_load_tensorflow` for a LiteRT file."""
    import importlib.metadata

    from keras_bert_zoo.cli.litert import load_to_measure
    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)  # it has the ops of tf.text
    answer, shapes = load_to_measure(args.model, args.threads)
    version = importlib.metadata.version("ai-edge-litert")
    return answer, shapes, {"litert": version, "threads": args.threads or 1}


def _load_tensorflow(args: argparse.Namespace, exported: bool) -> Loaded:
    """Loads a model or a SavedModel.

    Returns:
        a function that answers a request; the shapes of its inputs without the rows; the version of
        the runtime and the number of threads, for the summary.
    """
    from keras_bert_zoo.cli.runtime import start_tensorflow

    if args.threads is not None:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(args.threads)
    tf = start_tensorflow(verbose=args.verbose)
    runtime = {"tensorflow": tf.__version__, "threads": args.threads or os.cpu_count()}
    from keras_bert_zoo.export.session import ExportSession

    if exported:
        session = ExportSession(args.model)
        shapes = {name: shape[1:].as_list() for name, shape in session.inputs.items()}
        return session.run, shapes, runtime
    from keras_bert_zoo.cli.runtime import keras_dtype
    from keras_bert_zoo.tasks.registry import load_task

    task = load_task(
        args.model,
        dtype=keras_dtype(args.dtype or "float32", tf),
        ignore_config_keys=args.ignore_config_keys,
    )
    shapes = {name: spec.shape[1:].as_list() for name, spec in task.text_specs().items()}
    return lambda inputs: task.answer_rows(*inputs.values()), shapes, runtime


def _request(shapes: Mapping[str, list[int]], words: int, count: int) -> dict[str, Any]:
    """Returns texts of this many words for every input; all rows of a request differ."""
    source = itertools.cycle(_WORDS)

    def texts(shape: list[int]) -> Any:
        if shape:
            return [texts(shape[1:]) for _ in range(shape[0])]
        next(source)  # the next text starts at another word
        return " ".join(itertools.islice(source, words))

    return {name: [texts(shape) for _ in range(count)] for name, shape in shapes.items()}


def _measure(
    answer: Callable[[Mapping[str, Any]], Any], request: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Returns percentiles and the mean of the time of a request, in milliseconds."""
    import numpy as np

    for _ in range(_WARM_UP):
        answer(request)
    times = list(_times(answer, request, seconds))
    values = {f"p{p}_ms": round(1e3 * float(np.percentile(times, p)), 3) for p in _PERCENTILES}
    return values | {"mean_ms": 1e3 * float(np.mean(times)), "requests": len(times)}


def _times(
    answer: Callable[[Mapping[str, Any]], Any], request: Mapping[str, Any], seconds: float
) -> Iterator[float]:
    end = time.perf_counter() + seconds
    for index in itertools.count():
        begin = time.perf_counter()
        if begin > end and index >= _FEWEST:
            return
        answer(request)
        yield time.perf_counter() - begin


def _memory() -> int | None:
    """Returns the resident memory of this process in MiB; None where it is unknown."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return sizes[0] // 1024 if sizes else None

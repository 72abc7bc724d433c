"""Compares every family, head and variant with transformers.

    python -m tools.zoo.compare                         all; exit status 1 above the bar
    python -m tools.zoo.compare --family bert roberta   some families
    python -m tools.zoo.compare --every 2               every second case of each head
    python -m tools.zoo.compare --markdown              a table for the README
    python -m tools.zoo.compare --json results.json     write every case

Needs torch and transformers (extra `zoo`). For each case transformers saves a random model. This
package loads it and computes it in both layouts, for random ids and padding masks with holes. The
outputs are logits, or all hidden states, attention scores and the pooled output of a bare encoder.
transformers then loads the model saved by this package: no tensor is missing or unexpected, and the
outputs are equal. Configurations survive the round trip and have the defaults of transformers.
"""

import argparse
import dataclasses
import gc
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
import torch

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.encoders.registry import build_encoder
from tools.zoo.reference import (
    LENGTH,
    ROWS,
    Case,
    cases,
    compute,
    families,
    make_inputs,
    make_model,
)

BAR = 1e-5
# Weights are identical after a round trip; only the order of sums in torch may differ.
SAVED_BAR = 1e-6
# Keys of config.json that describe the file, not the model.
NOT_COMPARED = ("_name_or_path", "dtype")

_compared = itertools.count(1)


@dataclasses.dataclass
class Result:
    """The result of one case.

    Attributes:
        case: Case.
        difference: float. The largest difference of all outputs in both layouts.
        seconds: float.
        problems: list of str. Other errors.
    """

    case: Case
    difference: float = 0.0
    seconds: float = 0.0
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the difference is within the bar and there are no problems."""
        return self.difference <= BAR and not self.problems


def compare(case: Case) -> Result:
    """Compares one case; an exception is a problem, too."""
    result = Result(case)
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _compare(case, Path(folder), result)
    except Exception as error:  # one broken case should not hide the others
        result.problems.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    if next(_compared) % 8 == 0:  # graphs of earlier cases would fill the memory
        keras.backend.clear_session()
    result.seconds = time.perf_counter() - begin
    return result


def _compare(case: Case, folder: Path, result: Result) -> None:
    model = make_model(case)
    model.save_pretrained(folder / "theirs")
    inputs = make_inputs(case, model.config, ROWS, LENGTH)
    expected = compute(case, model, inputs)
    mask = inputs["padding_mask"]
    saved = folder / "ours"
    if case.head:
        padded = kbz.HeadedModel.from_preset(folder / "theirs", token_layout="padded")
        packed = kbz.HeadedModel(padded.encoder, padded.heads, token_layout="packed")
        if sorted(padded.heads) != sorted(case.heads):
            result.problems.append(f"loaded the heads {sorted(padded.heads)}")
        encoder = padded.encoder
        padded.save(saved)
    else:
        encoder = padded = kbz.Encoder.from_preset(
            folder / "theirs",
            token_layout="padded",
            hidden_states=True,
            attention_scores="attention_scores" in expected,
        )
        packed = build_encoder(
            encoder.config,
            token_layout="packed",
            hidden_states=True,
            pooler=encoder.has_pooler,
            attention_groups=3,
        )
        packed.set_weights(padded.get_weights())
        encoder.save(saved)
        if encoder.has_pooler != ("pooled_output" in expected):
            result.problems.append(f"has_pooler is {encoder.has_pooler}")
    for outputs in (padded(inputs), packed(inputs)):
        result.difference = max(result.difference, difference(outputs, expected, mask, result))
    # === Back to transformers ===
    loaded, info = type(model).from_pretrained(
        saved, attn_implementation="eager", output_loading_info=True
    )
    for key, names in info.items():
        if names:
            result.problems.append(f"{key} of the saved model in transformers: {names}")
    again = compute(case, loaded.eval(), inputs)
    apart = difference(again, expected, mask, result)
    if apart > SAVED_BAR:
        result.problems.append(f"the saved model differs by {apart:.1e} in transformers")
    if "pooled_output" in expected and "pooled_output" not in again:
        result.problems.append("the saved model has no pooler")
    # === Configurations ===
    config = encoder.config
    for name, contents in (
        ("our", config.to_huggingface()),
        ("transformers'", model.config.to_dict()),
        ("our saved", read_config(saved)),
        ("transformers' saved", loaded.config.to_dict()),
    ):
        if kbz.EncoderConfig.from_huggingface(contents) != config:
            result.problems.append(f"the configuration differs after a round trip by {name} dict")
    # Keys with default values may be added, but no key may change.
    theirs, ours = model.config.to_dict(), loaded.config.to_dict()
    for key, value in theirs.items():
        if (
            ours.get(key) != value
            and key not in NOT_COMPARED
            and not _same_set(value, ours.get(key))
        ):
            result.problems.append(f"saved {key}: expected {value!r}, received {ours.get(key)!r}")


def _same_set(left: Any, right: Any) -> bool:
    """Whether both are lists with equal items; our configurations compare their order."""
    return isinstance(left, list) and isinstance(right, list) and sorted(left) == sorted(right)


def difference(
    outputs: dict[str, Any], expected: dict[str, Any], mask: np.ndarray, result: Result
) -> float:
    """The largest difference of any output, at attended positions."""
    largest = 0.0
    for name, theirs in expected.items():
        if name not in outputs:
            if name != "attention_scores":  # the packed layout has none
                result.problems.append(f"no {name}")
            continue
        pairs = (
            zip(outputs[name], theirs, strict=True)
            if isinstance(theirs, list)
            else [(outputs[name], theirs)]
        )
        for ours, reference in pairs:
            ours = np.asarray(ours)
            if ours.shape != reference.shape:
                result.problems.append(f"{name}: expected {reference.shape}, received {ours.shape}")
                continue
            apart = np.abs(ours - reference)
            if name == "attention_scores":
                apart = apart * mask[:, np.newaxis, :, np.newaxis]
            elif reference.shape[:2] == mask.shape:
                apart = apart * mask.reshape(mask.shape + (1,) * (reference.ndim - 2))
            if not np.isfinite(ours).all():
                result.problems.append(f"{name} is not finite")
            largest = max(largest, float(apart.max()))
    return largest


def check_defaults(family: str) -> list[str]:
    """Compares the defaults of missing keys with those of transformers."""
    module = Case(family, "", "").module
    defaults = module.CONFIG()
    ours = kbz.EncoderConfig.from_huggingface({"model_type": defaults.model_type})
    theirs = kbz.EncoderConfig.from_huggingface(defaults.to_dict())
    problems = [
        f"default of {field.name} is {getattr(ours, field.name)!r}, transformers' is "
        f"{getattr(theirs, field.name)!r}"
        for field in dataclasses.fields(ours)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    ]
    for variant, overrides in module.VARIANTS.items():
        short = module.SMALL | overrides
        whole = module.CONFIG(**short).to_dict()
        short = short | {"model_type": defaults.model_type}
        if kbz.EncoderConfig.from_huggingface(short) != kbz.EncoderConfig.from_huggingface(whole):
            problems.append(f"{variant}: the short config.json differs from the complete one")
    return problems


def compare_all(chosen: list[Case], jobs: int) -> Iterator[Result]:
    """Compares cases in several processes, because Python takes most of the time."""
    if jobs < 2 or len(chosen) < 2:
        _start_worker()
        yield from map(compare, chosen)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(chosen)), initializer=_start_worker) as pool:
        yield from pool.imap(compare, chosen)


def _start_worker() -> None:
    gc.freeze()  # `clear_session` collects: it need not look at the imported modules
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def summary(results: list[Result]) -> list[tuple[str, str, int, float]]:
    """Rows of family, head, number of variants and largest difference."""
    groups = defaultdict(list)
    for result in results:
        groups[result.case.family, result.case.head or "(encoder)"].append(result)
    return [
        (family, head, len(group), max(result.difference for result in group))
        for (family, head), group in groups.items()
    ]


def print_table(rows: list[tuple[str, str, int, float]], *, markdown: bool) -> None:
    head = ("family", "head", "variants", "largest difference")
    cells = [(f, h, str(n), f"{d:.1e}") for f, h, n, d in rows]
    if markdown:
        cells = [(f, f"`{h}`", n, d) for f, h, n, d in cells]
        for line in (head, ("---", "---", "--:", "--:"), *cells):
            print("| " + " | ".join(line) + " |")
        return
    widths = [max(len(line[i]) for line in (head, *cells)) for i in range(4)]
    for line in (head, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _nth(seen: "Counter[tuple[str, str]]", case: Case) -> int:
    """The number of earlier cases with the same family and head."""
    key = (case.family, case.head)
    seen[key] += 1
    return seen[key] - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", nargs="+", choices=families(), default=families())
    parser.add_argument("--head", nargs="+", help='kinds of heads, "" for the bare encoder')
    parser.add_argument("--variant", nargs="+", help="names of variants")
    parser.add_argument(
        "--every", type=int, default=1, help="every Nth case of each family and head"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="write every case to this file")
    options = parser.parse_args()
    chosen = [
        case
        for family in options.family
        for case in cases(family)
        if options.head is None or case.head in options.head
        if options.variant is None or case.variant in options.variant
    ]
    seen: Counter[tuple[str, str]] = Counter()
    chosen = [case for case in chosen if _nth(seen, case) % options.every == 0]
    failures = 0
    for family in options.family:
        for problem in check_defaults(family):
            failures += 1
            print(f"FAILED {family}: {problem}", file=sys.stderr)
    results = []
    for result in compare_all(chosen, options.jobs):
        results.append(result)
        if not result.ok:
            failures += 1
            problems = "; ".join([f"difference {result.difference:.1e}", *result.problems])
            print(f"FAILED {result.case}: {problems}", file=sys.stderr)
    print_table(summary(results), markdown=options.markdown)
    seconds = sum(result.seconds for result in results)
    if not options.markdown:
        print(f"{len(results)} cases in {seconds:.0f} s, {failures} failures, bar {BAR:.0e}")
    if options.json:
        rows = [
            {
                **dataclasses.asdict(result.case),
                "difference": result.difference,
                "seconds": round(result.seconds, 3),
                "problems": result.problems,
            }
            for result in results
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not results:
        print("no case has this --head and --variant; choose others", file=sys.stderr)
    return 1 if failures or not results else 0


if __name__ == "__main__":
    sys.exit(main())

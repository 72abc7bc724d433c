"""Writes the small references for tests/encoders/test_zoo.py.

    python -m tools.zoo.goldens                         all; needs the extra `zoo`
    python -m tools.zoo.goldens --family bert roberta   some families

Writes a folder in tests/assets/zoo/ for each pair in GOLDENS of a family. It has a random model as
saved by transformers (float16, for size) and golden.npz, computed in float32. golden.npz has inputs
with random segments and padding masks, and outputs: logits by head, or all hidden states, the
attention scores of the last layer and the pooled output of a bare encoder.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np

from tools.zoo.reference import Case, compute, families, make_inputs, make_model

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "assets" / "zoo"
ROWS, LENGTH = 4, 7
LIMIT_BYTES = 30_000


def make_golden(case: Case) -> int:
    """Writes one golden; returns its size in bytes."""
    model = make_model(case)
    for parameter in model.parameters():  # to the precision of the file
        parameter.data = parameter.data.half().float()
    inputs = make_inputs(case, model.config, ROWS, LENGTH)
    outputs = compute(case, model, inputs)
    if "attention_scores" in outputs:
        outputs["attention_scores"] = outputs["attention_scores"][-1]
    outputs.pop("sequence_output", None)  # the last hidden state
    folder = ASSETS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    # The version of transformers would change the file without need.
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("transformers_version", None)
    text = json.dumps(config, indent=1, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(folder / "golden.npz", **inputs, **outputs)
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", nargs="+", choices=families(), default=families())
    for family in parser.parse_args().family:
        for old in ASSETS.glob(f"{family}-*"):
            shutil.rmtree(old)
        for head, variant in Case(family, "", "").module.GOLDENS:
            case = Case(family, head, variant)
            size = make_golden(case)
            print(f"{case.name}: {size:,} bytes")
            if size > LIMIT_BYTES:
                raise SystemExit(
                    f"{case.name}: expected at most {LIMIT_BYTES:,} bytes; use a smaller model"
                )


if __name__ == "__main__":
    main()

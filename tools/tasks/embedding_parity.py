"""Compares embeddings with sentence-transformers', text by text.

    python tools/tasks/embedding_parity.py --texts FILE... [--encoding latin-1]

Needs the extra `parity` and sentence-transformers (`pip install sentence-transformers`). The preset
is loaded here and there, embedded, saved here and loaded there again. Prints the smallest cosine
and the largest absolute difference; fails below 0.99999.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
from sentence_transformers import SentenceTransformer

import keras_bert_zoo as kbz
from keras_bert_zoo.presets.io import find_preset

BAR = 0.99999
PART = 2000  # texts at once


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--texts", nargs="+", required=True, help="files, a text a line")
    parser.add_argument("--encoding", default="latin-1", help="of the files")
    args = parser.parse_args()
    texts = []
    for name in args.texts:
        lines = pathlib.Path(name).read_text(args.encoding).split("\n")
        texts += [line for line in lines if line.strip()]
    embedder = kbz.TextEmbedder.from_preset(args.preset)
    reference = SentenceTransformer(str(find_preset(args.preset)))
    ours, theirs, here, there = [], [], 0.0, 0.0
    for begin in range(0, len(texts), PART):
        part = texts[begin : begin + PART]
        start = time.monotonic()
        ours.append(embedder.embed(part))
        middle = time.monotonic()
        theirs.append(reference.encode(part, batch_size=64))
        here, there = here + middle - start, there + time.monotonic() - middle
        worst = compare("so far", np.concatenate(ours), np.concatenate(theirs))
    print(f"{len(texts):,} texts: here {here:.0f} s, there {there:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        embedder.save(pathlib.Path(folder) / "saved")
        saved = SentenceTransformer(f"{folder}/saved")
        worst = min(worst, compare("saved here, loaded there", ours[0], saved.encode(texts[:PART])))
    return 0 if worst >= BAR else 1


def compare(what: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    wide, other = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.sum(wide * other, axis=1) / norms
    print(
        f"{what}: smallest cosine {cosines.min():.8f} of {len(ours):,}, largest difference "
        f"{np.abs(ours - theirs).max():.1e}",
        flush=True,
    )
    return float(cosines.min())


if __name__ == "__main__":
    sys.exit(main())

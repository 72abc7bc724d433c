"""Compares embeddings with those of sentence-transformers.

    python tools/tasks/embedding_parity.py --texts FILE... [--encoding latin-1]

Needs the extra `parity` and sentence-transformers (`pip install sentence-transformers`), which also
loads the preset, and the model as saved by this package. Prints the smallest cosine and the largest
absolute difference; fails below 0.99999.
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
from keras_bert_zoo.presets.resolve import find_preset

BAR = 0.99999
CHUNK = 2000  # texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--texts", nargs="+", required=True, help="files with one text per line")
    parser.add_argument("--encoding", default="latin-1", help="encoding of the files")
    args = parser.parse_args()
    texts = []
    for name in args.texts:
        lines = pathlib.Path(name).read_text(args.encoding).split("\n")
        texts += [line for line in lines if line.strip()]
    embedder = kbz.TextEmbedder.from_preset(args.preset)
    reference = SentenceTransformer(str(find_preset(args.preset)))
    ours, theirs, seconds = [], [], (0.0, 0.0)
    for begin in range(0, len(texts), CHUNK):
        chunk = texts[begin : begin + CHUNK]
        start = time.monotonic()
        ours.append(embedder.embed(chunk))
        middle = time.monotonic()
        theirs.append(reference.encode(chunk, batch_size=64))
        seconds = seconds[0] + middle - start, seconds[1] + time.monotonic() - middle
        worst = compare("so far", np.concatenate(ours), np.concatenate(theirs))
    print(f"{len(texts):,} texts: here {seconds[0]:.0f} s, reference {seconds[1]:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        embedder.save(pathlib.Path(folder) / "saved")
        saved = SentenceTransformer(f"{folder}/saved")
        worst = min(worst, compare("saved and loaded", ours[0], saved.encode(texts[:CHUNK])))
    return 0 if worst >= BAR else 1


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    wide, other = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.sum(wide * other, axis=1) / norms
    print(
        f"{name}: smallest cosine {cosines.min():.8f} of {len(ours):,}, largest difference "
        f"{np.abs(ours - theirs).max():.1e}",
        flush=True,
    )
    return float(cosines.min())


if __name__ == "__main__":
    sys.exit(main())

"""Writes pairs of texts with equal labels, to train an embedder on labelled data.

    python tools/tasks/make_text_pairs.py --data train.csv.gz --label category --output pairs.tsv

Every text is paired with a random text of its label; labels with a single text are omitted. Writes
the columns text, text_pair and label. Train with `--label label`, so that texts with equal labels
are not negatives of each other. The commands of the benchmark on Banking77 (2 cores):

    python tools/tasks/make_text_pairs.py --data tools/data/banking77/train.csv.gz \\
        --label category --rows 512 --output runs/pairs.tsv
    python tools/tasks/make_text_pairs.py --data tools/data/banking77/test.csv.gz \\
        --label category --rows 512 --output runs/test.tsv
    keras-bert-zoo train --task embedding --preset minilm_l6_en_uncased --train runs/pairs.tsv \\
        --text-pair text_pair --label label --epochs 1 --batch-size 64 --learning-rate 2e-4 \\
        --output runs/search
    keras-bert-zoo evaluate --model runs/search --data runs/test.tsv --text-pair text_pair \\
        --label label
"""

import argparse
import pathlib

import numpy as np

from keras_bert_zoo.data.tables import read_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, help="number of random texts; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    examples = read_table(args.data, text=args.text, label=args.label)
    random = np.random.default_rng(args.seed)
    labels = np.array(examples.labels)
    chosen = random.permutation(len(examples))[: args.rows]
    lines = ["text\ttext_pair\tlabel"]
    for index in chosen:
        others = np.flatnonzero(labels == labels[index])
        others = others[others != index]
        if len(others):
            pair = [examples.texts[index], examples.texts[random.choice(others)]]
            lines.append("\t".join([*(" ".join(text.split()) for text in pair), labels[index]]))
    path = pathlib.Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

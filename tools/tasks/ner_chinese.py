"""Trains a small encoder from scratch on Chinese entities, and checks every offset.

    python tools/tasks/ner_chinese.py DATA

DATA is the folder with uner_zh_gsdsimp (UNER_Chinese-GSDSIMP, CC BY-SA 4.0) and vocabs. The encoder
has 2 blocks of 128 units and is not pretrained, so a pretrained encoder would have a much better
score. The vocabulary is that of bert-base-chinese.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras

import keras_bert_zoo as kbz
from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.metrics.classification import format_report

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--crf", action="store_true")
parser.add_argument("--nested", action="store_true", help="learn spans instead of tags")


def check_offsets(task: kbz.TokenClassifier, texts: list[str]) -> int:
    """Compares every predicted entity with the text at its offsets; returns their number."""
    answers = task.predict(texts)
    count = 0
    for index, text in enumerate(texts):
        raw = text.encode()
        for position, label in enumerate(answers["label"][index]):
            if not label:
                continue
            entity = answers["entity"][index][position]
            characters = (answers[n][index][position] for n in ("start_character", "end_character"))
            places = (answers[n][index][position] for n in ("start", "end"))
            if text[slice(*characters)] != entity or raw[slice(*places)] != entity.encode():
                raise SystemExit(f"wrong offsets of {entity!r} in {text!r}")
            count += 1
    return count


def main() -> None:
    """Trains, evaluates and checks."""
    args = parser.parse_args()
    folder = args.data / "uner_zh_gsdsimp"
    train, dev, test = (
        read_conll(folder / f"zh_gsdsimp-ud-{part}.iob2.gz", tag=3)
        for part in ("train", "dev", "test")
    )
    for examples in (train, dev, test):
        for text, words in zip(examples.texts, examples.words or [], strict=True):
            rest = text
            for start, end in words:
                rest = rest.replace(text[start:end], "", 1)
            if rest.strip():
                raise SystemExit(f"expected only its words in {text!r}")
    keras.utils.set_random_seed(0)
    vocabulary = (args.data / "vocabs" / "bert-base-chinese" / "vocab.txt").read_text("utf-8")
    tokenizer = kbz.WordPieceTokenizer(vocabulary.removesuffix("\n").split("\n"))
    config = kbz.EncoderConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        hidden_dim=128,
        num_layers=2,
        num_heads=4,
        intermediate_dim=512,
        max_sequence_length=128,
        # Larger than BERT's 0.02: small random vectors stay similar in a short training.
        initializer_range=0.05,
    )
    encoder = build_encoder(config, pooler=False)
    tags = train.labels
    if not args.nested:
        tags = ["O", *(f"{prefix}-{kind}" for kind in tags for prefix in "BI")]
    task = kbz.TokenClassifier(encoder, tokenizer, tags, crf=args.crf, nested=args.nested)
    begin = time.time()
    task.fit(train, validation_data=dev, epochs=args.epochs, learning_rate=1e-3, verbose=2)
    print(f"{time.time() - begin:.0f} s of training")
    with tempfile.TemporaryDirectory() as saved:
        task.save(saved)
        task = kbz.TokenClassifier.load(saved)
    print(format_report(task.report(test)))
    sentences = [*train.texts, *dev.texts, *test.texts]
    count = check_offsets(task, sentences)
    print(f"{len(sentences):,} sentences, {count:,} entities predicted, every offset correct")


if __name__ == "__main__":
    main()

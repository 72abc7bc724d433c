"""Compares a saved token classifier with a transformers pipeline on texts of a CoNLL file.

    python tools/tasks/ner_parity.py MODEL FILE

MODEL is a directory written by `keras-bert-zoo train --task token-classification` without --crf.
transformers loads it unchanged. Its pipeline with aggregation_strategy="first" labels each word by
its first token, as this package does with `legal_only=False`. Needs the extra `parity`.
"""

import argparse

from transformers import pipeline

import keras_bert_zoo as kbz
from keras_bert_zoo.data.conll import read_conll

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model")
parser.add_argument("file")


def main() -> None:
    """Prints how many texts have the same entities."""
    args = parser.parse_args()
    task = kbz.TokenClassifier.load(args.model, legal_only=False)
    # transformers truncates longer texts; this package uses windows.
    room = task.max_length - 2
    texts = read_conll(args.file, scheme="words").texts
    texts = [text for text in texts if len(task.tokenizer.tokenize(text)) <= room]
    reference = pipeline(
        "token-classification", model=args.model, aggregation_strategy="first", device="cpu"
    )
    same = entities = 0
    for text, predictions in zip(texts, task.find_entities(texts), strict=True):
        ours = [(start, end, label) for start, end, label, _ in predictions]
        theirs = [(e["start"], e["end"], e["entity_group"]) for e in reference(text)]
        entities += len(theirs)
        same += ours == theirs
        if ours != theirs:
            print(f"{text!r}\n  this package {ours}\n  transformers {theirs}")
    print(f"{same:,} of {len(texts):,} texts have the same entities, {entities:,} in all")


if __name__ == "__main__":
    main()

"""Time ByteBpeTokenizer beside Hugging Face `tokenizers`, one thread each.

All in one process and one run, on the same texts, each the best of several rounds taken in turn.
Prints texts per second, and how many times as fast as Hugging Face's encode_batch each is.

Example:
    python tools/bench/byte_bpe.py --roberta ROBERTA --texts texts.txt

ROBERTA holds vocab.json and merges.txt. --texts takes text files, gzipped or not, one text a line,
or JSON files (all their strings).
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

# First, as it sets both libraries to one thread.
from tokenizer import read_texts  # isort: skip

import tensorflow as tf
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from keras_bert_zoo.text.byte_bpe import ByteBpeTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--roberta", required=True, type=pathlib.Path)
    parser.add_argument("--texts", required=True, type=pathlib.Path, nargs="+")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nfc", action="store_true")
    arguments = parser.parse_args()

    texts = read_texts(arguments.texts, arguments.count)
    batch = tf.constant([text.encode() for text in texts])
    begin = time.perf_counter()
    ours = ByteBpeTokenizer(
        arguments.roberta / "vocab.json", arguments.roberta / "merges.txt", nfc=arguments.nfc
    )
    built = time.perf_counter() - begin

    theirs = tokenizers.Tokenizer(
        models.BPE({token: i for i, token in enumerate(ours.pieces)}, list(ours.merges))
    )
    if arguments.nfc:
        theirs.normalizer = tokenizers.normalizers.NFC()
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.post_processor = processors.RobertaProcessing(
        (ours.sep_token, ours.sep_token_id),
        (ours.cls_token, ours.cls_token_id),
        trim_offsets=True,
        add_prefix_space=False,
    )
    theirs.add_special_tokens(list(ours.special_tokens))

    one = batch[:1]
    runs: dict[str, Callable[[], Any]] = {
        "tokenizers encode_batch": lambda: theirs.encode_batch(texts, add_special_tokens=False),
        "tokenizers encode_batch_fast": lambda: theirs.encode_batch_fast(
            texts, add_special_tokens=False
        ),
        "ByteBpeTokenizer.tokenize": lambda: ours.tokenize(batch),
        "ByteBpeTokenizer.tokenize_with_offsets": lambda: ours.tokenize_with_offsets(batch),
        "ByteBpeTokenizer(), packed to 128": lambda: ours(batch, max_length=128),
        "ByteBpeTokenizer.tokenize, one text": lambda: ours.tokenize(one),
        "tokenizers encode, one text": lambda: theirs.encode(texts[0]),
    }
    best = dict.fromkeys(runs, float("inf"))
    for round_number in range(arguments.rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if round_number:  # the first round traces and warms up
                best[name] = min(best[name], time.perf_counter() - begin)

    tokens = ours.tokenize(batch).values.shape[0]
    size = sum(len(text.encode()) for text in texts)
    print(
        f"{len(texts):,} texts, {size:,} bytes, {tokens:,} tokens; one thread each; "
        f"best of {arguments.rounds}; built in {built:.2f} s"
    )
    print(
        f"tensorflow {tf.__version__}, tokenizers {tokenizers.__version__}, "
        f"Python {platform.python_version()}"
    )
    slowest = best["tokenizers encode_batch"]
    print(f"{'':42} {'seconds':>9} {'texts/s':>10} {'times HF':>9}")
    for name, seconds in best.items():
        count = 1 if name.endswith("one text") else len(texts)
        ratio = "" if count == 1 else f"{slowest / seconds:9.1f}"
        print(f"{name:42} {seconds:9.5f} {count / seconds:10,.0f} {ratio:>9}")


if __name__ == "__main__":
    main()

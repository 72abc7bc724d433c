"""Time WordPieceTokenizer beside Hugging Face `tokenizers` and TensorFlow Text, one thread each.

All in one process and one run, on the same texts, each the best of several rounds taken in turn.
Prints texts per second, and how many times as fast as Hugging Face's encode_batch each is.

Example:
    python tools/bench/tokenizer.py --vocab vocab.txt --texts texts.txt

--texts takes text files, gzipped or not, one text a line, or JSON files (all their strings).
"""

from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import gzip
import json
import pathlib
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

import tensorflow_text as tf_text  # noqa: E402
import tokenizers  # noqa: E402
from tokenizers import models, normalizers, pre_tokenizers  # noqa: E402

from keras_bert_zoo.text import WordPieceTokenizer  # noqa: E402


def read_texts(paths: list[pathlib.Path], limit: int) -> list[str]:
    """Texts that are not blank, repeated until there are enough."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from strings(part)

    texts = []
    for path in paths:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        text = raw.decode("utf-8", "replace")
        lines = strings(json.loads(text)) if ".json" in path.suffixes else text.splitlines()
        texts += [line for line in lines if line.strip()]
    return (texts * (limit // len(texts) + 1))[:limit]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", required=True, type=pathlib.Path)
    parser.add_argument("--texts", required=True, type=pathlib.Path, nargs="+")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cased", action="store_true")
    arguments = parser.parse_args()

    texts = read_texts(arguments.texts, arguments.count)
    batch = tf.constant([text.encode() for text in texts])
    lower = not arguments.cased
    ours = WordPieceTokenizer(arguments.vocab, lowercase=lower)

    theirs = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(ours.pieces)}, unk_token="[UNK]")
    )
    theirs.normalizer = normalizers.BertNormalizer(lowercase=lower)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.add_special_tokens(list(ours.special_tokens))

    fast = tf_text.FastBertTokenizer(
        ours.pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=lower
    )
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(ours.pieces, np.arange(len(ours.pieces))), 1
    )
    classic = tf_text.BertTokenizer(table, lower_case=lower, token_out_type=tf.int64)

    def compiled(function: Callable[..., Any]) -> Callable[[], Any]:
        graph = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string)])
        return lambda: graph(batch)

    runs: dict[str, Callable[[], Any]] = {
        "tokenizers encode_batch": lambda: theirs.encode_batch(texts, add_special_tokens=False),
        "tokenizers encode_batch_fast": lambda: theirs.encode_batch_fast(
            texts, add_special_tokens=False
        ),
        "tf.text BertTokenizer": compiled(classic.tokenize),
        "tf.text FastBertTokenizer": compiled(fast.tokenize),
        "tf.text FastBertTokenizer, offsets": compiled(fast.tokenize_with_offsets),
        "WordPieceTokenizer.tokenize": lambda: ours.tokenize(batch),
        "WordPieceTokenizer.tokenize_with_offsets": lambda: ours.tokenize_with_offsets(batch),
        "WordPieceTokenizer(), packed to 128": lambda: ours(batch, max_length=128),
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
        f"best of {arguments.rounds}"
    )
    print(
        f"tensorflow {tf.__version__}, tensorflow_text {tf_text.__version__}, "
        f"tokenizers {tokenizers.__version__}, Python {platform.python_version()}"
    )
    slowest = best["tokenizers encode_batch"]
    print(f"{'':42} {'seconds':>8} {'texts/s':>10} {'times HF':>9}")
    for name, seconds in best.items():
        print(f"{name:42} {seconds:8.3f} {len(texts) / seconds:10,.0f} {slowest / seconds:9.1f}")
    fastest = min(slowest, best["tokenizers encode_batch_fast"])
    ratio = fastest / best["WordPieceTokenizer.tokenize"]
    print(f"tokenize against the faster of Hugging Face's two: {ratio:.1f} times")


if __name__ == "__main__":
    main()

"""Speed of a tokenizer against Hugging Face's with the same vocabulary, one thread each.

All tokenizers run in one process on the same texts and alternate in each round; the best round
counts. Prints texts per second, and the speed relative to Hugging Face's encode_batch. For a
WordPiece vocabulary, the tokenizers of TensorFlow Text are measured as well.

Examples:
    python tools/bench/tokenizer.py --vocab bert-base-uncased/vocab.txt --texts texts.txt
    python tools/bench/tokenizer.py --vocab roberta-base/vocab.json --texts texts.txt
    python tools/bench/tokenizer.py --vocab xlmr.model --texts texts.txt

--vocab is a vocab.txt, a vocab.json in the folder of its merges.txt (as RoBERTa's), a SentencePiece
model (as XLM-RoBERTa's), or a directory for AutoTokenizer. --texts are text files, gzipped or not,
with one text per line, or JSON files, of which all strings are used.
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
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

import tensorflow_text as tf_text  # noqa: E402
import tokenizers  # noqa: E402
from tables import Table, add_json_option, report  # noqa: E402

from keras_bert_zoo.text import WordPieceTokenizer  # noqa: E402
from keras_bert_zoo.text.registry import load_tokenizer_directory  # noqa: E402
from keras_bert_zoo.text.tokenizer import Tokenizer  # noqa: E402


def read_texts(paths: list[pathlib.Path], limit: int) -> list[str]:
    """Texts that are not blank, repeated up to the limit."""

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


def load(vocabulary: pathlib.Path, *, cased: bool) -> tuple[Tokenizer, tokenizers.Tokenizer, float]:
    """Our tokenizer, Hugging Face's, and the seconds of building ours."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        directory = vocabulary
        if not vocabulary.is_dir():
            directory = pathlib.Path(folder)
            config: dict[str, Any] = {"tokenizer_class": "XLMRobertaTokenizer"}
            files = {vocabulary: "sentencepiece.bpe.model"}
            if vocabulary.suffix == ".txt":
                config = {"tokenizer_class": "BertTokenizer", "do_lower_case": not cased}
                files = {vocabulary: "vocab.txt"}
            elif vocabulary.suffix == ".json":
                config = {"tokenizer_class": "RobertaTokenizer"}
                files = {vocabulary: "vocab.json", vocabulary.parent / "merges.txt": "merges.txt"}
            for path, name in files.items():
                shutil.copy(path, directory / name)
            (directory / "tokenizer_config.json").write_text(json.dumps(config))
        theirs = transformers.AutoTokenizer.from_pretrained(directory)._tokenizer
        begin = time.perf_counter()
        ours = load_tokenizer_directory(directory)
        return ours, theirs, time.perf_counter() - begin


def tf_text_runs(ours: WordPieceTokenizer, batch: tf.Tensor) -> dict[str, Callable[[], Any]]:
    """TensorFlow Text's tokenizers of the same vocabulary."""
    pieces = list(ours.pieces)
    fast = tf_text.FastBertTokenizer(
        pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=ours.lowercase
    )
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(pieces, np.arange(len(pieces))), 1
    )
    classic = tf_text.BertTokenizer(table, lower_case=ours.lowercase, token_out_type=tf.int64)

    def compiled(function: Callable[..., Any]) -> Callable[[], Any]:
        graph = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string)])
        return lambda: graph(batch)

    return {
        "tf.text BertTokenizer": compiled(classic.tokenize),
        "tf.text FastBertTokenizer": compiled(fast.tokenize),
        "tf.text FastBertTokenizer, offsets": compiled(fast.tokenize_with_offsets),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", required=True, type=pathlib.Path)
    parser.add_argument("--texts", required=True, type=pathlib.Path, nargs="+")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cased", action="store_true", help="the vocab.txt is cased")
    add_json_option(parser)
    arguments = parser.parse_args()

    texts = read_texts(arguments.texts, arguments.count)
    batch = tf.constant([text.encode() for text in texts])
    one = batch[:1]
    ours, theirs, built = load(arguments.vocab, cased=arguments.cased)
    name = type(ours).__name__
    runs: dict[str, Callable[[], Any]] = {
        "tokenizers encode_batch": lambda: theirs.encode_batch(texts, add_special_tokens=False),
        "tokenizers encode_batch_fast": lambda: theirs.encode_batch_fast(
            texts, add_special_tokens=False
        ),
        **(tf_text_runs(ours, batch) if isinstance(ours, WordPieceTokenizer) else {}),
        f"{name}.tokenize": lambda: ours.tokenize(batch),
        f"{name}.tokenize_with_offsets": lambda: ours.tokenize_with_offsets(batch),
        f"{name}(), packed to 128": lambda: ours(batch, max_length=128),
        "tokenizers encode, one text": lambda: theirs.encode(texts[0]),
        f"{name}.tokenize, one text": lambda: ours.tokenize(one),
    }
    best = dict.fromkeys(runs, float("inf"))
    for round_number in range(arguments.rounds + 1):
        for name_of_run, run in runs.items():
            begin = time.perf_counter()
            run()
            if round_number:  # the first round traces and warms up
                best[name_of_run] = min(best[name_of_run], time.perf_counter() - begin)

    tokens = ours.tokenize(batch).values.shape[0]
    size = sum(len(text.encode()) for text in texts)
    print(
        f"{len(texts):,} texts, {size:,} bytes, {tokens:,} tokens; one thread each; "
        f"best of {arguments.rounds}; built in {built:.2f} s"
    )
    print(
        f"tensorflow {tf.__version__}, tensorflow_text {tf_text.__version__}, "
        f"tokenizers {tokenizers.__version__}, Python {platform.python_version()}"
    )
    slowest = best["tokenizers encode_batch"]
    rows: dict[str, list[float | None]] = {}
    for name_of_run, seconds in best.items():
        if name_of_run.endswith("one text"):
            rows[name_of_run] = [1e6 * seconds, None, None]
        else:
            rows[name_of_run] = [None, len(texts) / seconds, slowest / seconds]
    columns = {"one text, microseconds": ".1f", "texts/s": ",.0f", "times encode_batch": ".1f"}
    table = Table("tokenizer", "engine", columns, rows, "texts/s", ["texts/s"], logarithmic=True)
    report([table], arguments.json)


if __name__ == "__main__":
    main()

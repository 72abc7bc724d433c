"""Compare SentencePieceTokenizer with Hugging Face's tokenizers: ids and byte offsets.

Every code point (inside a word, alone, doubled, after a space), the naughty strings, random strings
of mixed scripts and of grapheme clusters, and every text of a folder. For each
SentencePiece model of a folder, a directory is made for a tokenizer class of transformers, which
loads it with AutoTokenizer; models of other algorithms than unigram have their pieces taken for a
unigram model. Prints a table of differing texts and exits with 1 if there are any.

With --speed, times both on the movie reviews of DATA/mr, on one thread each.

Examples:
    python tools/check_sentencepiece.py --models MODELS --data DATA
    python tools/check_sentencepiece.py --models MODELS --data DATA --sample --only xlmr
    taskset -c 0 python tools/check_sentencepiece.py --models MODELS --data DATA --speed

MODELS holds files NAME.model or NAME.spm; the class is known by the beginning of the name (albert,
camembert, deberta, xlmr; others are done as each of them that the pieces allow).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import check_tokenizer
import tensorflow as tf
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from keras_bert_zoo.text import sentencepiece_model
from keras_bert_zoo.text.sentencepiece import SentencePieceTokenizer

CLASSES = {
    "albert": ("AlbertTokenizer", "spiece.model"),
    "camembert": ("CamembertTokenizer", "sentencepiece.bpe.model"),
    "deberta": ("DebertaV2Tokenizer", "spm.model"),
    "xlmr": ("XLMRobertaTokenizer", "sentencepiece.bpe.model"),
}
OPTIONS: dict[str, list[dict[str, object]]] = {
    "albert": [{}, {"do_lower_case": False, "keep_accents": True}],
    "deberta": [{}, {"do_lower_case": True, "split_by_punct": True}],
}
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False}
OPTIONS["xlmr"] = [{}, {"mask_token": {"__type": "AddedToken", "normalized": False, **MASK}}]
# Bases, marks and joiners, of which clusters of few bytes are made.
CLUSTERS = (
    "aeX1`' \r\n\t\u00a0\u00a9\u00ae\u00bd\u0301\u0308\u0323\u0340\u0344\u034f\u0600\u0645\u0650"
    "\u093c\u0915\u0958\u094d\u0e01\u0e33\u0eb3\u1100\u1161\u11a8\u1160\uac00\uac01\u200b\u200d"
    "\u200e\u2122\u2126\u2581\u3000\u304b\u3099\uff9e\uff76\ufb01\ufdfa\ufe0f\U0001f469\U0001f1e6"
    "\U0001f3fb\U000e0041\U0001d15e\U00011099\U000110ba\x01\x7f\xad\0"
)


def cluster_texts(count: int) -> list[str]:
    """Texts full of grapheme clusters, of reordered marks and of odd spaces."""
    rng = random.Random(check_tokenizer.SEED)
    return ["".join(rng.choices(CLUSTERS, k=rng.randint(1, 14))) for _ in range(count)]


def generic(pieces: list[tuple[str, float]], unk_id: int, charsmap: bytes) -> Iterator[tuple]:
    """Tokenizers as older versions of transformers wrote them, and odder ones."""
    steps = normalizers
    mapped = [steps.Precompiled(charsmap)] if charsmap else []
    spaces = Regex(" {2,}")
    metaspace = pre_tokenizers.Metaspace
    yield (
        "strip, map, one space",
        [steps.Strip(), *mapped, steps.Replace(spaces, " ")],
        [metaspace()],
    )
    yield (
        "map, strip right, sign",
        [*mapped, steps.Strip(left=False, right=True), steps.Replace(spaces, "\u2581")],
        [metaspace(prepend_scheme="first")],
    )
    yield "NFKC, never, no split", [steps.NFKC()], [metaspace(prepend_scheme="never", split=False)]
    yield (
        "NFD, punctuation, first",
        [steps.NFD(), steps.Lowercase()],
        [pre_tokenizers.Punctuation("isolated"), metaspace(prepend_scheme="first")],
    )


def made(model: pathlib.Path, folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path, object]]:
    """Name, directory and Hugging Face's tokenizer, for all ways to wrap a model."""
    import transformers

    parsed = sentencepiece_model.read_model(model)
    names = [name for name in CLASSES if model.name.startswith(name)]
    for family in names if parsed.algorithm == "unigram" else []:
        name, file = CLASSES[family]
        for number, options in enumerate(OPTIONS.get(family, [{}])):
            directory = folder / f"{model.stem}-{number}"
            directory.mkdir()
            shutil.copy(model, directory / file)
            config = {"tokenizer_class": name, **options}
            (directory / "tokenizer_config.json").write_text(json.dumps(config))
            loaded = transformers.AutoTokenizer.from_pretrained(directory)
            yield f"{name} {options or ''}"[:48], directory, loaded._tokenizer
    pieces = [(piece.text, piece.score) for piece in parsed.pieces]
    unk = pieces[parsed.unk_id][0]
    for number, (name, steps, splitters) in enumerate(
        generic(pieces, parsed.unk_id, parsed.charsmap)
    ):
        tokenizer = tokenizers.Tokenizer(
            models.Unigram(pieces, parsed.unk_id, parsed.byte_fallback)
        )
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitters)
        tokenizer.decoder = decoders.Metaspace(
            prepend_scheme="never" if "never" in name else "always"
        )
        tokenizer.add_special_tokens(["<s>", "</s>", unk, "<pad>"])
        tokenizer.post_processor = processors.BertProcessing(
            ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
        )
        directory = folder / f"{model.stem}-generic-{number}"
        directory.mkdir()
        tokenizer.save(str(directory / "tokenizer.json"))
        yield name, directory, tokenizer


def speed(data: pathlib.Path, ours: SentencePieceTokenizer, theirs: object) -> None:
    """Times 20,000 sentences, three times each; prints the best."""
    lines: list[str] = []
    for path in sorted((data / "mr").glob("rt-polarity.*")):
        lines += path.read_text("latin-1").splitlines()
    texts = (lines * 2)[:20_000]
    tensor = tf.constant(texts)
    for name, function in (
        ("ours, ids", lambda: ours.tokenize(tensor)),
        ("ours, ids and offsets", lambda: ours.tokenize_with_offsets(tensor)),
        ("tokenizers.encode_batch", lambda: theirs.encode_batch(texts)),
    ):
        function()
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - begin)
        print(f"    {name:24} {min(seconds):6.2f} s", flush=True)
    one = tf.constant(texts[:1])
    begin = time.perf_counter()
    for _ in range(100):
        ours.tokenize(one)
    print(f"    {'ours, one sentence':24} {(time.perf_counter() - begin) * 10:6.2f} ms")


def main() -> None:
    """Compare, print, exit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--data", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--sample", action="store_true", help="a part of everything")
    parser.add_argument("--only", default="", metavar="PREFIX", help="models of these names")
    parser.add_argument("--speed", action="store_true", help="time instead of comparing")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if arguments.speed:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    step = 37 if arguments.sample else 1
    points = list(check_tokenizer.code_points())[::step]
    sets = {
        "code points in a word": [f"a{c}b hello" for c in points],
        "code points alone": points,
        "code points doubled": [c + c for c in points],
        "code points after a space": [f"x {c}y" for c in points],
        "naughty strings": json.loads(
            next(iter(sorted(arguments.data.rglob("blns.json")))).read_text("utf-8")
        ),
        "random strings": check_tokenizer.random_texts(1_000 if arguments.sample else 20_000),
        "random clusters": cluster_texts(1_000 if arguments.sample else 50_000),
        "texts of the folder": check_tokenizer.folder_texts(arguments.data)[::step],
    }
    failed = False
    print(f"{'':28} {'texts':>9} {'ids':>6} {'offsets':>8} {'seconds':>8}")
    found = [*arguments.models.glob("*.model"), *arguments.models.glob("*.spm")]
    for model in sorted(path for path in found if path.name.startswith(arguments.only)):
        if sentencepiece_model.read_model(model).algorithm == "bpe":
            print(f"{model.name}: skipped, a BPE model")
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name, directory, theirs in made(model, pathlib.Path(folder)):
                print(f"{model.name} {name}", flush=True)
                ours = SentencePieceTokenizer.from_directory(directory)
                if arguments.speed:
                    speed(arguments.data, ours, theirs)
                    continue
                for label, texts in sets.items():
                    begin = time.perf_counter()
                    flags = check_tokenizer.Flags(lowercase=False)
                    result = check_tokenizer.compare(ours, theirs, flags, texts)
                    print(
                        f"  {label:26} {result.texts:9,} {result.ids:6,} {result.offsets:8,} "
                        f"{time.perf_counter() - begin:8.1f}",
                        flush=True,
                    )
                    for example in result.examples:
                        print(f"    {example}")
                    failed = failed or bool(result.ids or result.offsets)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Compares SentencePieceTokenizer with Hugging Face's tokenizers: ids and byte offsets.

The texts are every code point (inside a word, alone, doubled, after a space), the naughty strings,
random strings of mixed scripts and of grapheme clusters, and every text of a folder. The models are
those in MODELS and, with --train, new ones trained on the texts of DATA. Each is wrapped in a
directory for a tokenizer class and loaded by AutoTokenizer. Prints a table of differing texts; the
exit status is 1 if there are any.

This package must reject all directories that transformers cannot load; both messages are printed.
A directory that only this package rejects counts as a difference.

Examples:
    python tools/check_sentencepiece.py --models VOCABS/spm_test --train --data DATA
    python tools/check_sentencepiece.py --models MODELS --data DATA --sample --only xlm

MODELS contains files NAME.model or NAME.spm. The prefix of the name selects the class: albert,
camembert, deberta, xlm, or generic (unusual pipelines). Other names are compared as all classes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import check_tokenizer
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.sentencepiece import model as sentencepiece_model
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer

CLASSES = {
    "albert": ("AlbertTokenizer", "spiece.model"),
    "camembert": ("CamembertTokenizer", "sentencepiece.bpe.model"),
    "deberta": ("DebertaV2Tokenizer", "spm.model"),
    "xlm": ("XLMRobertaTokenizer", "sentencepiece.bpe.model"),
}
OPTIONS: dict[str, list[dict[str, object]]] = {
    "albert": [{}, {"do_lower_case": False, "keep_accents": True}],
    "deberta": [{}, {"do_lower_case": True, "split_by_punct": True}],
}
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False}
OPTIONS["xlm"] = [{}, {"mask_token": {"__type": "AddedToken", "normalized": False, **MASK}}]
# Training options that give the special pieces of a class.
FAIRSEQ = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
GOOGLE = {
    "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
    "control_symbols": ["[CLS]", "[SEP]"], "user_defined_symbols": ["[MASK]"],
}  # fmt: skip
MICROSOFT = {
    "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]",
    "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]",
}  # fmt: skip
FEW = {"character_coverage": 0.98}  # fewer characters, for a small vocabulary
NMT, CF = "nmt_nfkc", "nmt_nfkc_cf"
TRAINED: dict[str, dict[str, Any]] = {
    "albert_8k": {"vocab_size": 8000, "normalization_rule_name": CF, **GOOGLE},
    "xlm_8k": {"vocab_size": 8000, "normalization_rule_name": NMT, **FAIRSEQ},
    "camembert_16k": {"vocab_size": 16000, "normalization_rule_name": "nfkc", **FAIRSEQ},
    "deberta_6k": {"vocab_size": 6000, "normalization_rule_name": "identity", **FEW, **MICROSOFT},
    "generic_bytes_3k": {"vocab_size": 3000, "byte_fallback": True, **FEW, **FAIRSEQ},
    "xlm_bpe_4k": {"vocab_size": 4000, "model_type": "bpe", **FEW, **FAIRSEQ},
    "albert_word_9k": {"vocab_size": 9000, "model_type": "word", **FEW, **GOOGLE},
    "deberta_char": {"vocab_size": 3000, "model_type": "char", **FEW, **MICROSOFT},
}
# Texts for models that are not compared in full; of code points, every seventh.
SOME = ("code points in a word", "naughty strings", "random strings", "random clusters")
# Bases, marks and joiners that form clusters of few bytes.
CLUSTERS = (
    "aeX1`' \r\n\t\u00a0\u00a9\u00ae\u00bd\u0301\u0308\u0323\u0340\u0344\u034f\u0600\u0645\u0650"
    "\u093c\u0915\u0958\u094d\u0e01\u0e33\u0eb3\u1100\u1161\u11a8\u1160\uac00\uac01\u200b\u200d"
    "\u200e\u2122\u2126\u2581\u3000\u304b\u3099\uff9e\uff76\ufb01\ufdfa\ufe0f\U0001f469\U0001f1e6"
    "\U0001f3fb\U000e0041\U0001d15e\U00011099\U000110ba\x01\x7f\xad\0"
)


def cluster_texts(count: int) -> list[str]:
    """Texts with many grapheme clusters, reordered marks and unusual spaces."""
    rng = random.Random(check_tokenizer.SEED)
    return ["".join(rng.choices(CLUSTERS, k=rng.randint(1, 14))) for _ in range(count)]


@dataclass(frozen=True)
class Case:
    """A directory, and Hugging Face's tokenizer or its error."""

    name: str
    directory: pathlib.Path
    theirs: tokenizers.Tokenizer | None
    full: bool = False  # whether to compare all texts
    error: str = ""


def train(texts: list[str], folder: pathlib.Path) -> None:
    """Trains models on texts."""
    import sentencepiece

    rng = random.Random(check_tokenizer.SEED)
    lines = rng.sample([text for text in texts if 0 < len(text) < 1000], 30_000)
    for name, options in TRAINED.items():
        with (folder / f"{name}.model").open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=file, hard_vocab_limit=False,
                minloglevel=2, num_threads=2, **options,
            )  # fmt: skip


def generic(
    parsed: sentencepiece_model.SentencePieceModel,
) -> Iterator[tuple[str, tokenizers.Tokenizer]]:
    """Tokenizers of older versions of transformers, and unusual pipelines."""
    steps, metaspace = normalizers, pre_tokenizers.Metaspace
    mapped = [steps.Precompiled(parsed.charsmap)] if parsed.charsmap else []
    spaces = Regex(" {2,}")
    pipelines = {
        "strip, map, one space": (
            [steps.Strip(), *mapped, steps.Replace(spaces, " ")],
            [metaspace()],
        ),
        "map, strip right, sign": (
            [*mapped, steps.Strip(left=False, right=True), steps.Replace(spaces, "\u2581")],
            [metaspace(prepend_scheme="first")],
        ),
        "NFKC, never, no split": ([steps.NFKC()], [metaspace(prepend_scheme="never", split=False)]),
        "NFD, punctuation, first": (
            [steps.NFD(), steps.Lowercase()],
            [pre_tokenizers.Punctuation("isolated"), metaspace(prepend_scheme="first")],
        ),
    }
    pieces = [(piece.text, piece.score) for piece in parsed.pieces]
    unk = pieces[parsed.unk_id][0]
    for name, (normalizer, splitters) in pipelines.items():
        tokenizer = tokenizers.Tokenizer(
            models.Unigram(pieces, parsed.unk_id, parsed.byte_fallback)
        )
        tokenizer.normalizer = normalizers.Sequence(normalizer)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitters)
        tokenizer.decoder = decoders.Metaspace(
            prepend_scheme="never" if "never" in name else "always"
        )
        tokenizer.add_special_tokens(["<s>", "</s>", unk, "<pad>"])
        tokenizer.post_processor = processors.BertProcessing(
            ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
        )
        yield name, tokenizer


def cases(model: pathlib.Path, folder: pathlib.Path) -> Iterator[Case]:
    """Wraps a model in directories for tokenizer classes."""
    import transformers

    parsed = sentencepiece_model.read_model(model)
    named = [family for family in (*CLASSES, "generic") if model.name.startswith(family)]
    for family, (name, file) in CLASSES.items():
        if family not in (named or CLASSES):
            continue
        for number, options in enumerate(OPTIONS.get(family, [{}])):
            if family == "deberta":
                # The default, [UNK], is rejected if the model has another token.
                options = {**options, "unk_token": parsed.pieces[parsed.unk_id].text}
            directory = folder / f"{model.stem}-{family}-{number}"
            directory.mkdir()
            shutil.copy(model, directory / file)
            config = {"tokenizer_class": name, **options}
            (directory / "tokenizer_config.json").write_text(json.dumps(config))
            title = f"{name} {options or ''}"[:60]
            try:
                loaded = transformers.AutoTokenizer.from_pretrained(directory)
            except Exception as error:  # of any class
                yield Case(title, directory, None, error=f"{type(error).__name__}: {error}")
                continue
            # One directory of each model is compared in full.
            full = number == 0 and (bool(named) or family == "xlm")
            full = full and parsed.algorithm in ("unigram", "word")
            yield Case(title, directory, loaded._tokenizer, full)
    if named not in ([], ["generic"]):
        return
    for number, (name, tokenizer) in enumerate(generic(parsed)):
        directory = folder / f"{model.stem}-generic-{number}"
        directory.mkdir()
        tokenizer.save(str(directory / "tokenizer.json"))
        yield Case(name, directory, tokenizer)


def run(case: Case, sets: dict[str, list[str]]) -> bool:
    """Compares and prints one directory; returns whether there is a difference."""
    try:
        ours = SentencePieceTokenizer.from_directory(case.directory)
    except ConfigError as error:
        print(f"  rejected here: {error}\n  by Hugging Face: {case.error or 'accepted'}")
        return case.theirs is not None
    if case.theirs is None:
        print(f"  accepted here; rejected by Hugging Face: {case.error}")
        return True
    failed = False
    for label, texts in sets.items():
        if not case.full and label not in SOME:
            continue
        if not case.full and label.startswith("code points"):
            texts = texts[::7]
        begin = time.perf_counter()
        flags = check_tokenizer.Flags(lowercase=False)
        # Ids without offsets come from the same graph as ids with offsets.
        result = check_tokenizer.compare(ours, case.theirs, flags, texts, ids_alone_every=16)
        print(
            f"  {label:26} {result.texts:9,} {result.ids:6,} {result.offsets:8,} "
            f"{time.perf_counter() - begin:8.1f}",
            flush=True,
        )
        for example in result.examples:
            print(f"    {example}")
        failed = failed or bool(result.ids or result.offsets)
    return failed


def main() -> None:
    """Compares, prints and exits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--train", action="store_true", help="also train models on DATA")
    parser.add_argument("--data", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--sample", action="store_true", help="compare a sample")
    parser.add_argument("--only", default="", metavar="PREFIX", help="only models with this prefix")
    arguments = parser.parse_args()
    if arguments.models is None and not arguments.train:
        parser.error("expected --models, --train or both, received neither")
    step = 37 if arguments.sample else 1
    points = list(check_tokenizer.code_points())[::step]
    naughty = sorted(arguments.data.rglob("blns.json"))
    if not naughty:
        sys.exit(f"check_sentencepiece.py: expected blns.json in {arguments.data}, received none")
    folder_texts = check_tokenizer.folder_texts(arguments.data)
    sets = {
        "code points in a word": [f"a{c}b hello" for c in points],
        "code points alone": points,
        "code points doubled": [c + c for c in points],
        "code points after a space": [f"x {c}y" for c in points],
        "naughty strings": json.loads(naughty[0].read_text("utf-8")),
        "random strings": check_tokenizer.random_texts(1_000 if arguments.sample else 20_000),
        "random clusters": cluster_texts(1_000 if arguments.sample else 50_000),
        "texts of the folder": folder_texts[::step],
    }
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        paths: list[pathlib.Path] = []
        if arguments.models is not None:
            paths += sorted(arguments.models.glob("*.model"))
            paths += sorted(arguments.models.glob("*.spm"))
        if arguments.train:
            train(folder_texts, pathlib.Path(folder))
            paths += sorted(pathlib.Path(folder).glob("*.model"))
        print(f"{'':28} {'texts':>9} {'ids':>6} {'offsets':>8} {'seconds':>8}")
        for model in paths:
            if not model.name.startswith(arguments.only):
                continue
            for case in cases(model, pathlib.Path(folder)):
                print(f"{model.name} {case.name}", flush=True)
                failed |= run(case, sets)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

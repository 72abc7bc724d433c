"""Compares ByteBpeTokenizer with Hugging Face `tokenizers`: ids and byte offsets.

The texts are every code point (inside a word, alone, doubled, after a space, between contractions),
the naughty strings, random strings of mixed scripts, and every text of a folder. The vocabularies
are RoBERTa's, as transformers loads it, and new ones trained on English and on Chinese in the
structure of ModernBERT (NFC, runs of spaces as added tokens). Naughty and random strings are also
compared with each option of RoBERTa's vocabulary and with random merge tables, which no training
gives. Prints a table of differing texts; the exit status is 1 if there are any.

Examples:
    python tools/check_byte_bpe.py --roberta ROBERTA --data DATA
    python tools/check_byte_bpe.py --data DATA --sample    (under a minute, for CI)

ROBERTA contains vocab.json and merges.txt; DATA contains text files, gzipped or not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import tokenizers
from check_tokenizer import (
    CONTROLS,
    SCRIPTS,
    SEED,
    SPACES,
    Flags,
    blns,
    code_points,
    compare,
    folder_texts,
    random_texts,
)
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.special_tokens import AddedToken

ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
MODERN = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
NO_EXCUSES = Flags(lowercase=False, strip_accents=False)


@dataclass(frozen=True)
class Case:
    """Our tokenizer and the equivalent one of Hugging Face."""

    name: str
    ours: ByteBpeTokenizer
    theirs: tokenizers.Tokenizer
    full: bool  # whether to compare all texts


def reference(ours: ByteBpeTokenizer) -> tokenizers.Tokenizer:
    """Builds the equivalent tokenizer of Hugging Face."""
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(ours.pieces)},
            list(ours.merges),
            unk_token=ours.unk_token if ours.unknown_bytes else None,
        )
    )
    if ours.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=ours.add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if ours.trim_offsets:
        tokenizer.post_processor = processors.RobertaProcessing(
            (ours.sep_token, ours.sep_token_id),
            (ours.cls_token, ours.cls_token_id),
            trim_offsets=True,
            add_prefix_space=ours.add_prefix_space,
        )
    for token in sorted(ours.added_tokens, key=lambda token: token.id):
        theirs = tokenizers.AddedToken(
            token.content,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=token.special,
        )
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([theirs])
    for token in ours.added_tokens:
        if tokenizer.token_to_id(token.content) != token.id:
            raise SystemExit(f"{token} has another id in Hugging Face's tokenizer")
    return tokenizer


def train(texts: list[str], size: int, special: tuple[str, ...]) -> tuple[list[str], list]:
    """Trains a BPE; returns its vocabulary and merges."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(special),
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return vocabulary, [tuple(pair) for pair in model["merges"]]


def random_bpe(rng: random.Random, letters: str, count: int) -> tuple[list[str], list]:
    """A vocabulary with random merges in random order, some of them repeated."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = dict.fromkeys(letters)
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pair = (rng.choice(list(known)), rng.choice(list(known)))
        if sum(map(len, pair)) <= 40:
            merges.append(pair)
            known["".join(pair)] = None
    rng.shuffle(merges)
    words = [word for word in known if word not in alphabet]
    # Tokens that no merge gives.
    words += ["".join(rng.choices(letters, k=3)) for _ in range(9)]
    return [*ROBERTA, *alphabet, *dict.fromkeys(words)], merges


def modern(vocabulary: list[str], merges: list) -> ByteBpeTokenizer:
    """Builds a tokenizer in the structure of ModernBERT."""
    added = [AddedToken("|||IP_ADDRESS|||", normalized=True, special=False)]
    added += [AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)]
    added += [AddedToken("|||EMAIL_ADDRESS|||", normalized=True, special=False)]
    added += [AddedToken(token, lstrip=token == "[MASK]") for token in MODERN]
    added += [AddedToken(f"[unused{n}]", special=False) for n in range(5)]
    start = len(vocabulary)
    return ByteBpeTokenizer(
        vocabulary,
        merges,
        nfc=True,
        trim_offsets=False,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        added_tokens=[
            AddedToken(t.content, start + n, t.lstrip, t.rstrip, False, t.normalized, t.special)
            for n, t in enumerate(added)
        ],
        separators_between=1,
    )


CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "''", "'S", "'l", "'r", "'v")


def random_english(count: int) -> list[str]:
    """Random texts of the special cases of GPT-2's expression, the same in every run."""
    rng = random.Random(SEED)
    parts: list[Callable[[], str]] = [
        lambda: rng.choice(CONTRACTIONS),
        lambda: rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 3, 7, 25, 30)),
        lambda: rng.choice((*SPACES, " ", "\x85", "\x1c", "\u200b", "\v\f")),
        lambda: rng.choice(ROBERTA + MODERN),
        lambda: rng.choice(("<mask", "mask>", "|||IP_ADDRESS|||", "[unused1]", "|||", "\u037e")),
        lambda: "".join(rng.choices("abehinorst", k=rng.randint(1, 9))),
        lambda: "".join(rng.choices("0123456789٣Ⅷ²", k=rng.randint(1, 4))),
        lambda: "".join(rng.choices("!?.,-_()#$~`*\\/😀€", k=rng.randint(1, 4))),
        lambda: rng.choice(CONTROLS),
        lambda: rng.choice("aeoAEOqй가한\u1100कΑ") + "".join(
            rng.choices("\u0301\u0323\u0307\u0300\u0345\u0338\u1161\u11a8\u11a7\u093c\u094d",
                        k=rng.randint(1, 4))
        ),
        lambda: "".join(chr(rng.randint(*SCRIPTS[rng.choice(list(SCRIPTS))])) for _ in "ab"),
        lambda: rng.choice("aĠé中") * rng.choice((30, 60, 300)),
        lambda: " " * rng.randint(1, 30),
    ]  # fmt: skip
    return ["".join(rng.choice(parts)() for _ in range(rng.randint(0, 9))) for _ in range(count)]


def load_roberta(files: Iterable[pathlib.Path]) -> Case:
    """Loads a directory of these files with both packages."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        config = {"tokenizer_class": "RobertaTokenizer"}
        pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)._tokenizer
        return Case("roberta", ByteBpeTokenizer.from_directory(folder), theirs, full=True)


def cases(arguments: argparse.Namespace, texts: list[str]) -> Iterator[Case]:
    """The tokenizers to compare."""

    def case(name: str, ours: ByteBpeTokenizer, full: bool = False) -> Case:
        return Case(name, ours, reference(ours), full)

    if arguments.roberta is not None:
        files = arguments.roberta / "vocab.json", arguments.roberta / "merges.txt"
        yield load_roberta(files)
        for prefix, trim, nfc in itertools.product((False, True), repeat=3):
            options = {"add_prefix_space": prefix, "trim_offsets": trim, "nfc": nfc}
            # The mask token includes the space before it, as in RoBERTa's tokenizer.json.
            yield case(f"roberta {prefix:d}{trim:d}{nfc:d}", ByteBpeTokenizer(*files, **options))
    english = [text for text in texts if text.isascii()][:20_000]
    yield case("modern, English", modern(*train(english, 3_000, ())), full=True)
    chinese = [text for text in texts if any("一" <= char <= "鿿" for char in text)][:20_000]
    yield case("modern, Chinese", modern(*train(chinese, 3_000, ())), full=True)
    rng = random.Random(SEED)
    for number in range(3 if arguments.sample else 12):
        vocabulary, merges = random_bpe(rng, "Ġabehinorst'"[: 4 + number], 40 * 2 ** (number % 5))
        yield case(f"drawn {number}", ByteBpeTokenizer(vocabulary, merges))


def main() -> None:
    """Compares, prints and exits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--roberta", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--data", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--sample", action="store_true", help="compare a sample, for CI")
    parser.add_argument("--only", metavar="NAME", help="only cases with this prefix")
    arguments = parser.parse_args()

    step = 37 if arguments.sample else 1
    points = list(code_points())[::step]
    texts = folder_texts(arguments.data)
    path = next(iter(sorted(arguments.data.rglob("blns.json"))), None)
    mixed = [
        text.replace("[MASK]", " <mask>").replace("[SEP]", "</s>")
        for text in random_texts(3_000 if arguments.sample else 20_000)
    ]
    sets = {
        "code points in a word": [f"a{c}b hello" for c in points],
        "code points alone": points,
        "code points doubled": [c + c for c in points],
        "code points after a space": [f"x  {c} {c}'s" for c in points],
        "code points after marks": [f"e\u0323{c}\u0301 1{c}." for c in points],
        "naughty strings": blns() if path is None else json.loads(path.read_text("utf-8")),
        "random strings": mixed,
        "random English": random_english(3_000 if arguments.sample else 30_000),
        "texts of the folder": texts[::step],
    }
    subset = ("naughty strings", "random strings", "random English")
    print(f"{'case':40} {'set':26} {'texts':>9} {'ids':>6} {'offsets':>8} {'seconds':>8}")
    failed = False
    for case in cases(arguments, texts):
        if arguments.only and not case.name.startswith(arguments.only):
            continue
        for name, case_texts in sets.items():
            if not case.full and name not in subset:
                continue
            begin = time.perf_counter()
            result = compare(case.ours, case.theirs, NO_EXCUSES, case_texts)
            seconds = time.perf_counter() - begin
            failed |= bool(result.ids or result.offsets)
            print(
                f"{case.name:40} {name:26} {result.texts:9,} {result.ids:6,} "
                f"{result.offsets:8,} {seconds:8.1f}",
                flush=True,
            )
            for example in result.examples:
                print(f"    {example}")
    sys.exit(failed)


if __name__ == "__main__":
    main()

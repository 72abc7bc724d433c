"""Compares WordPieceTokenizer with Hugging Face `tokenizers`: ids and byte offsets.

The texts are every code point (inside a word, alone, doubled), the naughty strings, 100,000 random
strings of mixed scripts, and every text of a folder. They are compared for each vocabulary of a
folder. Prints a table of differing texts; the exit status is 1 if any difference is unexplained.

Each vocabulary is also compared in the structure of MPNet: <s>, <pad>, </s> and <unk> come first,
<mask> comes last. <mask> includes the whitespace on its left, <unk> is matched in normalized text,
and offsets are trimmed. The texts then contain these instead of BERT's special tokens.

The only explained difference is canonical reordering. With strip_accents, Hugging Face sorts
combining marks (NFD), which a table of single characters cannot do. It explains a text only if a
remaining mark moves, and if the sorted text gives the ids of Hugging Face.

Examples:
    python tools/check_tokenizer.py --vocabs VOCABS --data DATA
    python tools/check_tokenizer.py --vocabs VOCABS --sample    (under a minute, for CI)

VOCABS contains a folder per vocabulary, with a file whose name ends in vocab.txt. DATA contains
text files, gzipped or not.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import pathlib
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from keras_bert_zoo.text import WordPieceTokenizer
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.vocabulary import read_vocabulary

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
# Special tokens of TensorFlow Text's vocabularies.
START_END: dict[str, Any] = {"cls_token": "[START]", "sep_token": "[END]", "mask_token": None}
MPNET = {
    "[UNK]": "[UNK]", "[CLS]": "<s>", "[SEP]": "<unk>", "[PAD]": "<UNK>", "[MASK]": "<mask>",
}  # fmt: skip
BATCH = 16384
SEED = 20181011


@dataclass(frozen=True)
class Flags:
    """The options of both tokenizers."""

    lowercase: bool
    strip_accents: bool | None = None
    handle_chinese_chars: bool = True

    def __str__(self) -> str:
        short = {True: "yes", False: "no", None: "-"}
        return (
            f"lower {short[self.lowercase]}, strip {short[self.strip_accents]}, "
            f"chinese {short[self.handle_chinese_chars]}"
        )

    @property
    def strips(self) -> bool:
        return self.lowercase if self.strip_accents is None else self.strip_accents


def reference(
    vocabulary: list[str], flags: Flags, special: Iterable[str] = SPECIAL
) -> tokenizers.Tokenizer:
    """Hugging Face's fast BERT tokenizer."""
    pieces = {piece: i for i, piece in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece(vocab=pieces, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=flags.handle_chinese_chars,
        strip_accents=flags.strip_accents,
        lowercase=flags.lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([token for token in special if token in pieces])
    return tokenizer


def mpnet(vocabulary: list[str], flags: Flags) -> tuple[WordPieceTokenizer, tokenizers.Tokenizer]:
    """Our tokenizer and Hugging Face's in the structure of MPNet."""
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *vocabulary, "<mask>"]
    added = [
        AddedToken("<s>"), AddedToken("<pad>"), AddedToken("</s>"), AddedToken("[UNK]"),
        AddedToken("<unk>", normalized=True), AddedToken("<mask>", lstrip=True),
    ]  # fmt: skip
    ours = WordPieceTokenizer(
        vocabulary, lowercase=flags.lowercase, strip_accents=flags.strip_accents,
        handle_chinese_chars=flags.handle_chinese_chars, cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", mask_token="<mask>", added_tokens=added, separators_between=2,
        second_segment_id=0, trim_offsets=True,
    )  # fmt: skip
    theirs = reference(vocabulary, flags, special=())
    theirs.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    for token in added:
        theirs.add_special_tokens(
            [tokenizers.AddedToken(token.content, lstrip=token.lstrip, normalized=token.normalized)]
        )
    return ours, theirs


def renamed(sets: dict[str, list[str]], names: dict[str, str]) -> dict[str, list[str]]:
    """Replaces the special tokens of BERT in the texts."""

    def rename(text: str) -> str:
        for token, other in names.items():
            text = text.replace(token, other)
        return text

    return {name: list(map(rename, texts)) for name, texts in sets.items()}


# === Texts ===


def code_points() -> Iterator[str]:
    """Every character of Unicode."""
    return (chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)


SCRIPTS = {
    "ascii": (0x20, 0x7E),
    "latin": (0xA0, 0x24F),
    "ipa and modifiers": (0x250, 0x2FF),
    "marks": (0x300, 0x36F),
    "greek": (0x370, 0x3FF),
    "cyrillic": (0x400, 0x52F),
    "armenian and hebrew": (0x530, 0x5FF),
    "arabic": (0x600, 0x6FF),
    "devanagari and bengali": (0x900, 0x9FF),
    "tamil to sinhala": (0xB80, 0xDFF),
    "thai, lao, tibetan": (0xE00, 0xFFF),
    "jamo": (0x1100, 0x11FF),
    "latin additional and greek extended": (0x1E00, 0x1FFF),
    "punctuation and symbols": (0x2000, 0x2BFF),
    "kana and cjk signs": (0x3000, 0x33FF),
    "ideographs": (0x4E00, 0x9FFF),
    "hangul": (0xAC00, 0xD7A3),
    "private": (0xE000, 0xE0FF),
    "compatibility": (0xF900, 0xFFFF),
    "music and mathematics": (0x1D100, 0x1D7FF),
    "emoji": (0x1F300, 0x1FAFF),
    "ideographs b and later": (0x20000, 0x2FA1F),
    "tags": (0xE0001, 0xE01EF),
    "planes 15 and 16": (0xF0000, 0x10FFFF),
}
CONTROLS = (
    "\0\x01\x11\x12\x1b\x7f\x80\x85\xad\u061c\u180e\u200b\u200c\u200d\u200e\u2060\ufeff\ufffd"
)
SPACES = " \t\n\r\xa0\u1680\u2003\u2028\u202f\u3000"


def random_word(rng: random.Random) -> str:
    """One word of one kind."""
    kind = rng.random()
    if kind < 0.30:
        return "".join(rng.choices("etaoinshrdluETAOIN", k=rng.randint(1, 9)))
    if kind < 0.36:
        return rng.choice(SPECIAL)
    if kind < 0.40:
        return rng.choice(SPECIAL).lower() if rng.random() < 0.5 else rng.choice(SPECIAL)[:-1]
    if kind < 0.44:
        letter = rng.choice("aé한жﬁ中\u0301\u0e01İ")
        return letter * rng.choice((49, 50, 51, 99, 100, 101, 102, 150))
    if kind < 0.50:
        base = "".join(rng.choices("aeiouAEIOUnçşğ", k=3))
        return "".join(c + "".join(chr(rng.randint(0x300, 0x36F)) for _ in "ab") for c in base)
    if kind < 0.54:
        return "".join(rng.choices(CONTROLS, k=rng.randint(1, 3)))
    if kind < 0.57:
        point = rng.randrange(0x110000 - 0x800)
        return chr(point if point < 0xD800 else point + 0x800)
    first, last = SCRIPTS[rng.choice(list(SCRIPTS))]
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))


def random_texts(count: int) -> list[str]:
    """Texts of mixed scripts, the same in every run."""
    rng = random.Random(SEED)
    texts = []
    for _ in range(count):
        words = [random_word(rng) for _ in range(rng.randint(0, 9))]
        texts.append(
            "".join(
                word + rng.choice(("", " ", " ", rng.choice(SPACES), rng.choice("[]#.,-'")))
                for word in words
            )
        )
    return texts


def json_strings(value: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain(*map(json_strings, value.values()))
    elif isinstance(value, list):
        yield from itertools.chain(*map(json_strings, value))


def folder_texts(folder: pathlib.Path) -> list[str]:
    """The distinct texts of a folder: strings of JSON files, lines of other text files."""
    texts: dict[str, None] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        if b"\0" in raw[:4096]:
            continue
        # Files in legacy encodings are read with U+FFFD.
        text = raw.decode("utf-8", errors="replace")
        if ".json" in path.suffixes:
            texts.update(dict.fromkeys(json_strings(json.loads(text))))
        else:
            texts.update(dict.fromkeys(text.splitlines()))
    return list(texts)


def blns() -> list[str]:
    """Replacements for the naughty strings, if there is no copy of them."""
    return [
        "",
        " ",
        "\0",
        "[MASK",
        "a\u0301" * 60,
        "ﷺ",
        "𝕋𝕙𝕖",
        "👩‍👩‍👧‍👦",
        "Ω≈ç√∫˜µ≤≥÷",
        "٠١٢",
        "\ufeff",
        "­",
    ]


# === Comparison ===


@dataclass
class Result:
    """Numbers of differing texts."""

    texts: int = 0
    ids: int = 0
    offsets: int = 0
    reordered_ids: int = 0
    reordered_offsets: int = 0
    examples: list[str] = field(default_factory=list)


def byte_positions(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The byte offset of each character of the joined texts, and the first one of each text."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    firsts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return starts, firsts


def expected(
    tokenizer: tokenizers.Tokenizer, texts: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, byte offsets (tokens, 2) and row splits of Hugging Face's tokenizer."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    counts = np.array([len(encoding) for encoding in encodings], np.int64)
    ids = np.fromiter(itertools.chain.from_iterable(e.ids for e in encodings), np.int64)
    flat = itertools.chain.from_iterable(
        itertools.chain.from_iterable(e.offsets) for e in encodings
    )
    offsets = np.fromiter(flat, np.int64).reshape(-1, 2)
    starts, firsts = byte_positions(texts)
    first = np.repeat(firsts[:-1], counts)[:, np.newaxis]
    offsets = starts[first + offsets] - starts[first]
    return ids, offsets, np.concatenate([[0], np.cumsum(counts)])


def reordered(text: str, flags: Flags, special: Iterable[str] = SPECIAL) -> str | None:
    """The text with sorted marks, if sorting moves a remaining mark; otherwise None."""
    if not flags.strips:
        return None
    nfd = normalizers.NFD()
    keep = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
    )
    strip = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
    )
    moved = False
    parts = []
    pieces = [text]
    special = tuple(special)
    for token in special:
        pieces = [
            part
            for piece in pieces
            for part in ([piece] if piece in special else _split(piece, token))
        ]
    for piece in pieces:
        if piece in special:
            parts.append(piece)
            continue
        cleaned = keep.normalize_str(piece)
        plain = "".join(nfd.normalize_str(char) for char in cleaned)
        whole = nfd.normalize_str(cleaned)
        moved = moved or any(
            a != b and (strip.normalize_str(a) or strip.normalize_str(b))
            for a, b in zip(plain, whole, strict=True)
        )
        parts.append(whole)
    return "".join(parts) if moved else None


def _split(piece: str, token: str) -> list[str]:
    """ "xTy" -> ["x", "T", "y"]."""
    parts = piece.split(token)
    return [part for i, rest in enumerate(parts) for part in ([token, rest] if i else [rest])]


def compare(
    ours: Tokenizer,
    theirs: tokenizers.Tokenizer,
    flags: Flags,
    texts: Iterable[str],
    special: Iterable[str] = SPECIAL,
    *,
    ids_alone_every: int = 1,
) -> Result:
    """Counts the texts whose ids or offsets differ.

    One of every `ids_alone_every` batches is also tokenized without offsets.
    """
    result = Result()
    for number, batch in enumerate(map(list, _batched(texts))):
        ids, offsets, splits = expected(theirs, batch)
        strings = [text.encode() for text in batch]
        tokens, starts, ends = ours.tokenize_with_offsets(strings)
        if number % ids_alone_every == 0 and not np.array_equal(
            ours.tokenize(strings).values, tokens.values
        ):
            raise SystemExit("tokenize and tokenize_with_offsets give different ids")
        our_splits = tokens.row_splits.numpy()
        our_ids = tokens.values.numpy()
        spans = np.stack([starts.values.numpy(), ends.values.numpy()], axis=1)
        result.texts += len(batch)
        if (
            np.array_equal(splits, our_splits)
            and np.array_equal(ids, our_ids)
            and np.array_equal(offsets, spans)
        ):
            continue
        for row, text in enumerate(batch):
            a, b = slice(*splits[row : row + 2]), slice(*our_splits[row : row + 2])
            same_ids = np.array_equal(ids[a], our_ids[b])
            if same_ids and np.array_equal(offsets[a], spans[b]):
                continue
            canonical = reordered(text, flags, special)
            if canonical is not None and (
                ours.tokenize(canonical).numpy().tolist() == ids[a].tolist()
            ):
                result.reordered_ids += not same_ids
                result.reordered_offsets += same_ids
                continue
            result.ids += not same_ids
            result.offsets += same_ids
            if len(result.examples) < 5:
                result.examples.append(
                    f"{text!a:.300}: expected {ids[a].tolist()} {offsets[a].tolist()}, "
                    f"received {our_ids[b].tolist()} {spans[b].tolist()}"
                )
    return result


def _batched(texts: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Texts in batches (itertools.batched needs Python 3.12)."""
    iterator = iter(texts)
    while batch := tuple(itertools.islice(iterator, BATCH)):
        yield batch


def report(
    title: str,
    ours: WordPieceTokenizer,
    theirs: tokenizers.Tokenizer,
    flags: Flags,
    sets: dict[str, list[str]],
    special: Iterable[str] = SPECIAL,
) -> bool:
    """Compares sets of texts and prints table rows; returns whether texts differ."""
    print(title)
    failed = False
    for name, texts in sets.items():
        begin = time.perf_counter()
        result = compare(ours, theirs, flags, texts, special)
        moved = f"{result.reordered_ids} + {result.reordered_offsets}"
        print(
            f"{'':30} {name:24} {result.texts:9,} {result.ids:6,} {result.offsets:8,} "
            f"{moved:>16} {time.perf_counter() - begin:8.1f}",
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
    parser.add_argument("--vocabs", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", help="folder of texts")
    parser.add_argument(
        "--blns", type=pathlib.Path, metavar="FILE", help="blns.json, if not in DATA"
    )
    parser.add_argument("--sample", action="store_true", help="compare a sample, for CI")
    parser.add_argument("--only", metavar="NAME", help="one vocabulary")
    arguments = parser.parse_args()

    step = 37 if arguments.sample else 1
    sets: dict[str, list[str]] = {}
    points = list(code_points())[::step]
    sets["code points in a word"] = [f"a{c}b hello" for c in points]
    sets["code points alone"] = points
    sets["code points doubled"] = [c + c for c in points]
    path = arguments.blns
    if path is None and arguments.data is not None:
        path = next(iter(sorted(arguments.data.rglob("blns.json"))), None)
    sets["naughty strings"] = blns() if path is None else json.loads(path.read_text("utf-8"))
    sets["random strings"] = random_texts(3_000 if arguments.sample else 100_000)
    if arguments.data is not None:
        texts = folder_texts(arguments.data)
        sets["texts of the folder"] = texts[::step]
    flagged = {
        "code points in a word": sets["code points in a word"],
        "naughty strings": sets["naughty strings"],
        "random strings": sets["random strings"][:20_000],
    }

    print(
        f"{'vocabulary':30} {'set':24} {'texts':>9} {'ids':>6} {'offsets':>8} "
        f"{'reordered marks':>16} {'seconds':>8}"
    )
    failed = False
    for file in sorted(arguments.vocabs.glob("*/*vocab.txt")):
        folder = file.parent
        if arguments.only and folder.name != arguments.only:
            continue
        pieces = read_vocabulary(file)
        named = {} if "[CLS]" in pieces else START_END
        default = Flags(lowercase="cased" not in folder.name or "uncased" in folder.name)
        others = [
            flags
            for flags in (
                Flags(True), Flags(False), Flags(True, False), Flags(False, True),
                Flags(True, True, False), Flags(False, None, False),
            )
            if flags != default
        ]  # fmt: skip
        for flags in [default] if arguments.sample else [default, *others]:
            ours = WordPieceTokenizer(
                pieces,
                lowercase=flags.lowercase,
                strip_accents=flags.strip_accents,
                handle_chinese_chars=flags.handle_chinese_chars,
                **named,
            )
            theirs = reference(pieces, flags, special=ours.special_tokens)
            title = (
                f"{folder.name} ({flags})" if flags == default else f"{folder.name} with {flags}"
            )
            texts = sets if flags == default else flagged
            if named:
                texts = renamed(texts, {"[CLS]": "[START]", "[SEP]": "[END]"})
            failed |= report(title, ours, theirs, flags, texts, ours.special_tokens)
        if named:
            continue
        ours, theirs = mpnet(pieces, default)
        special = [token for token in MPNET.values() if token in ours.vocabulary]
        texts = renamed(flagged, MPNET)
        failed |= report(f"{folder.name} as MPNet's", ours, theirs, default, texts, special)
    print(
        "ids: texts with different ids. offsets: texts with equal ids and different offsets. "
        "reordered marks:\ntexts with different ids + different offsets only because Hugging Face "
        "sorts combining marks; not counted in the other columns."
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Writes tests/text/wordpiece/assets/wordpiece_goldens.json with outputs of `tokenizers`.

The file has a small vocabulary, texts with all known special cases, and the ids and character
offsets for each setting. So the expected values do not depend on the installed packages.

Example:
    python tools/make_tokenizer_goldens.py \\
        --output tests/text/wordpiece/assets/wordpiece_goldens.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [
    *SPECIAL,
    *"abcdefghijklmnopqrstuvwxyz!#$%&'()*,-./:;?@[]^_`{|}~0123456789",
    *(f"##{char}" for char in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *"ABÉéßøıı̇"[:7], "##É", "##é", "##ß", "İ", "##i̇", "##̇", "##́",
    *"中文国测试，。！、北", "##文", "##国", "中文", "のア", "の", "##ア",
    *"ᄒᄀ", "##ᅡ", "##ᆫ", "##ᅮ", "##ᆨ", "한", "##국", "한국",
    "the", "un", "##aff", "##able", "##ing", "hello", "world", "##ＡＢ", "ǆ", "##ǆ", "ﬁ", "##ﬁ",
    "ό", "##σ", "##ς", "σ", "ς", "ж", "##Ж", "##ж", "‑", "𝕏", "##𝕏", "😀", "##😀", "\U0002b820",
    "##\U0002b820", "⹒", "##⹒", "x⹒",
]  # fmt: skip
TEXTS = [
    "", " ", "Hello, world! unaffable", "ÉCOLE école é e\u0301 E\u0301\u0301x",
    "a\u00adb\u00ad c\u200d d\u0000e\ufffd f\u200b",
    "[MASK] [CLS][SEP]x[PAD]y[UNK] [mask] [MASK [[MASK]] [ MASK ]",
    "中文国测试，。北!中\u0301文 豈x", "한국어 한국x", "のアＡＢ！ｱ",
    "İstanbul ıI ß ẞ ǅ ﬁ ΌΣ ὈΔΥΣΣΕΎΣ Жж",
    "a" * 100, "a" * 101, "é" * 100, "é" * 101, f"x{'한' * 34} y", f"x{'한' * 50} y",
    "a\u00a0b\u2003c\td\ne\u3000f\u0085g\u2028h", "x⹒y ⹒ \U0002b820a\U0002b820 \U0002b91f",
    "😀a😀 𝕏x \U000f0000a\ue000 a\U0010ffffb \U000e0041c",
    "don't stop-now... #tag ##able a_b c^d e`f $5 <x> a=b a+b",
    "\u0301 \u0301a \u00ad\u0301", "q\u0323\u0307 \u0958 \u09cb \U0001d15e",
]  # fmt: skip

# Lists of added tokens (content, flags), and texts with them.
ADDED = [
    [("<mask>", {"lstrip": True}), ("<unk>", {"normalized": True}), ("the", {"rstrip": True})],
    [("ab", {}), ("aba", {"lstrip": True}), ("bab", {}), ("b ", {}), ("Éa", {"normalized": True})],
]
ADDED_TEXTS = [
    "a \u3000\t<mask> b", "<mask><mask>  <mask>the  <mask>", "<UNK> <u\u0301nk>\u00ad <unk",
    "中<mask>the", "ababab aba bab b b", "  ababa \u2028aba", "e\u0301a ÉA \u00c9\u00ada eab", "",
    " ", "THE the\u1680 x",
]  # fmt: skip


def bert(vocabulary: list[str], lowercase: bool, **options: bool | None) -> tokenizers.Tokenizer:
    """Hugging Face's tokenizer, without added tokens."""
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, lowercase=lowercase, **options
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=pathlib.Path)
    output = parser.parse_args().output
    vocabulary = list(dict.fromkeys(VOCABULARY))
    cases = []
    for lower, strip, chinese in itertools.product(
        (True, False), (None, True, False), (True, False)
    ):
        tokenizer = bert(vocabulary, lower, handle_chinese_chars=chinese, strip_accents=strip)
        tokenizer.add_special_tokens(SPECIAL)
        encodings = tokenizer.encode_batch(TEXTS, add_special_tokens=False)
        cases.append(
            {
                "lowercase": lower,
                "strip_accents": strip,
                "handle_chinese_chars": chinese,
                "ids": [encoding.ids for encoding in encodings],
                "offsets": [encoding.offsets for encoding in encodings],
            }
        )
    added_cases = []
    for lower, added in itertools.product((True, False), ADDED):
        tokenizer = bert(vocabulary, lower)
        tokenizer.add_special_tokens(SPECIAL)
        for content, flags in added:
            tokenizer.add_special_tokens([tokenizers.AddedToken(content, **flags)])
        encodings = tokenizer.encode_batch(ADDED_TEXTS, add_special_tokens=False)
        added_cases.append(
            {
                "lowercase": lower,
                "added_tokens": [{"content": content, **flags} for content, flags in added],
                "ids": [encoding.ids for encoding in encodings],
                "offsets": [encoding.offsets for encoding in encodings],
            }
        )
    head = {
        "made_by": f"tools/make_tokenizer_goldens.py, tokenizers {tokenizers.__version__}",
        "vocabulary": vocabulary,
        "texts": TEXTS,
        "added_texts": ADDED_TEXTS,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in (("added_cases", added_cases), ("cases", cases)):
        text = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in rows)
        lines.append(f" {json.dumps(key)}: [\n  {text}\n ]")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"wrote {output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

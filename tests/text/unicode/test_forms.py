"""Unicode's normalization forms have the results of Hugging Face."""

import itertools
import random
import time
import unicodedata

import pytest
import tensorflow as tf

from keras_bert_zoo.text.unicode.characters import Characters
from keras_bert_zoo.text.unicode.forms import unicode_form

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
# Bases, marks of many classes, and characters with unusual compositions.
LETTERS = (
    "aeoAEO\u0301\u0308\u0323\u0340\u0344\u0345\u0f71\u0f72\u0f73\u0f81\u1e9b\u0958\u09c7\u09be"
    "\u093c\u1100\u1161\u11a8\uac00\uac01\u11a7\u212b\u2126\ufb01\ufdfa\u3099\u304b\uff76\uff9e\xbd"
)


def normalize(form, texts):
    """Returns the normalized texts, and the index of each character's source in its text."""
    points = tf.strings.unicode_decode(tf.constant(texts), "UTF-8")
    size = tf.size(points.values, tf.int64)
    rows = tf.cast(points.value_rowids(), tf.int64)
    count = tf.constant(len(texts), tf.int64)
    result = unicode_form(form)(Characters(points.values, tf.range(size), rows, count))
    splits = result.splits()
    source = result.source - tf.gather(points.row_splits, result.rows)
    return [
        ("".join(map(chr, result.points[a:b].numpy())), source[a:b].numpy().tolist())
        for a, b in itertools.pairwise(splits)
    ]


@pytest.mark.parity
@pytest.mark.parametrize("form", FORMS)
def test_equals_hugging_face(form):
    tokenizers = pytest.importorskip("tokenizers")
    rng = random.Random(7)
    texts = ["".join(rng.choices(LETTERS, k=rng.randint(0, 12))) for _ in range(2000)]
    theirs = getattr(tokenizers.normalizers, form)()
    assert [text for text, _ in normalize(form, texts)] == [*map(theirs.normalize_str, texts)]


@pytest.mark.parametrize("form", FORMS)
def test_equals_python_for_old_characters(form):
    texts = ["e\u0323\u0301\u0308", "\u1e69\u0307", "\u1100\u1161\u11a8x", "\ufb01\xbd", "\u0344"]
    normalized = [text for text, _ in normalize(form, texts)]
    assert normalized == [unicodedata.normalize(form, text) for text in texts]


def test_sources():
    assert normalize("NFC", ["e\u0323x", "\u00e9"]) == [("\u1eb9x", [0, 2]), ("\u00e9", [0])]
    assert normalize("NFD", ["\u00e9x"]) == [("e\u0301x", [0, 0, 1])]
    assert normalize("NFKD", ["\ufb01"]) == [("fi", [0, 0])]


@pytest.mark.parametrize("text", ["a" + "\u0301" * 20_000, "\u1161" * 20_000, "\u09be" * 20_000])
def test_long_runs_take_no_time(text):
    normalize("NFC", ["e\u0301"])
    begin = time.process_time()
    ((normalized, _),) = normalize("NFC", [text])
    assert time.process_time() - begin < 20
    assert normalized == unicodedata.normalize("NFC", text)

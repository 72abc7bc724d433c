"""Documents of sentences, and their sentence pairs."""

import pytest

from keras_bert_zoo.data.documents import read_sentence_pairs, sentence_pairs
from keras_bert_zoo.errors import DataError

DOCUMENTS = [[f"{name}{i}" for i in range(size)] for name, size in (("a", 5), ("b", 1), ("c", 6))]


def test_half_of_the_seconds_come_from_another_document():
    seconds = {}
    for seed in range(40):
        pairs = sentence_pairs(DOCUMENTS, seed=seed)
        assert len(pairs) == 9
        assert pairs.labels.count("not_next") == 4
        for first, second, label in zip(pairs.texts, pairs.text_pairs, pairs.labels, strict=True):
            follows = first[0] == second[0]
            assert follows == (label == "is_next")
            if follows:
                assert int(second[1:]) == int(first[1:]) + 1
            else:
                seconds.setdefault(first[0], set()).add(second)
    assert seconds["a"] == {"b0", *DOCUMENTS[2]}  # every sentence of the others comes up
    assert seconds["c"] == {"b0", *DOCUMENTS[0]}
    assert sentence_pairs(DOCUMENTS, seed=1) == sentence_pairs(DOCUMENTS, seed=1)
    assert sentence_pairs(DOCUMENTS, seed=1) != sentence_pairs(DOCUMENTS, seed=2)


def test_a_file(tmp_path):
    (tmp_path / "x.txt").write_text("\n\none\n two \n\n\nthree\nfour\n\nfive")
    pairs = read_sentence_pairs(tmp_path / "x.txt")
    assert pairs.texts == ["one", "three"]
    assert pairs.rows == [3, 7]
    assert sorted(pairs.labels) == ["is_next", "not_next"]
    assert pairs.where(1).endswith("x.txt:7")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\n", "x.txt: expected at least two documents, .* received 1"),
        (b"", "x.txt: expected at least two documents, .* received 0"),
        (
            b"one\n\ntwo\n\nthree",
            "x.txt: expected a document of at least two .* received 3 documents",
        ),
        (b"one\ntwo\n\nth\xffree\n", "x.txt:4: byte 0xff"),
    ],
)
def test_invalid_files_are_refused(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sentence_pairs(tmp_path / "x.txt")

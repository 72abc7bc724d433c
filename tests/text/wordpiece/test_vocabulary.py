"""Irregular vocabulary files: no line moves an id, and transformers returns the same ids."""

import json

import pytest

from keras_bert_zoo import notices
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import WordPieceTokenizer
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.wordpiece.files import read_directory
from keras_bert_zoo.text.wordpiece.vocabulary import is_safe_in_lines, read_vocabulary

PLAIN = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "dog"]
TEXTS = ["the cats sat dog", "[MASK] the", "dogs [SEP] s", "id 6 is free"]


def with_line(token, replacement):
    return [replacement if line == token else line for line in PLAIN]


def lines(tokens, end="\n"):
    return "".join(f"{token}{end}" for token in tokens).encode()


# Name -> the file; the ids of "the cats sat dog" in transformers 5.24, without [CLS] and [SEP]; a
# part of the warning.
ODD = {
    "plain": (lines(PLAIN), [5, 6, 7, 8, 9], ""),
    "space": (lines(with_line("cat", "cat ")), [5, 6, 7, 8, 9], ""),
    "tab": (lines(with_line("cat", "cat\t\t")), [5, 6, 7, 8, 9], ""),
    "form feed": (lines(with_line("cat", "cat\f")), [5, 6, 7, 8, 9], ""),
    "next line": (lines(with_line("cat", "cat\x85")), [5, 6, 7, 8, 9], ""),
    "line separator": (lines(with_line("cat", "cat\u2028")), [5, 6, 7, 8, 9], ""),
    "no-break space": (lines(with_line("cat", "cat\xa0\u3000")), [5, 6, 7, 8, 9], ""),
    "file separator": (lines(with_line("cat", "cat\x1c")), [5, 1, 8, 9], ""),  # not Rust's space
    "zero width space": (lines(with_line("cat", "cat\u200b")), [5, 1, 8, 9], ""),
    "space before": (lines(with_line("cat", " cat")), [5, 1, 8, 9], ""),
    "carriage return": (lines(with_line("cat", "ca\rt")), [5, 1, 8, 9], ""),
    "windows": (lines(PLAIN, "\r\n"), [5, 6, 7, 8, 9], ""),
    "windows, twice": (lines(PLAIN, "\r\r\n"), [5, 6, 7, 8, 9], ""),
    "no last line feed": (lines(PLAIN)[:-1], [5, 6, 7, 8, 9], ""),
    "mark": (b"\xef\xbb\xbf" + lines(PLAIN), [5, 6, 7, 8, 9], "byte-order mark at"),
    "blank": (lines([*PLAIN[:6], "", *PLAIN[6:]]), [5, 7, 8, 9, 10], "1 blank line keeps its id,"),
    "two blank": (lines([*PLAIN[:6], "", " ", *PLAIN[6:]]), [5, 8, 9, 10, 11], "2 blank lines"),
    "blank at the end": (lines([*PLAIN, "", ""]), [5, 6, 7, 8, 9], "blank lines keep their ids"),
    "twice": (
        lines([*PLAIN[:6], "the", *PLAIN[6:]]),
        [6, 7, 8, 9, 10],
        "the last line sets the id, as in transformers ('the' on lines 6 and 7)",
    ),
    "special twice": (lines([*PLAIN, "[SEP]"]), [5, 6, 7, 8, 9], "'[SEP]' on lines 4 and 11"),
    "twice but for a space": (lines([*PLAIN, "cat "]), [5, 10, 7, 8, 9], "'cat' on lines 7 and 11"),
    "no mask": (lines([*PLAIN[:4], *PLAIN[5:]]), [4, 5, 6, 7, 8], "has no mask_token '[MASK]'"),
}


def write(folder, content, vocab_size=None):
    (folder / "vocab.txt").write_bytes(content)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    if vocab_size is not None:
        config = {"model_type": "bert", "vocab_size": vocab_size}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def ids_of(vocabulary):
    """Returns the ids of "the cats sat dog"."""
    place = {token: i for i, token in enumerate(vocabulary)}
    cats = [place["cat"], place["##s"]] if "cat" in place else [place["[UNK]"]]
    return [place["the"], *cats, place["sat"], place["dog"]]


@pytest.mark.parametrize("name", ODD)
def test_ids_are_those_of_transformers(tmp_path, caplog, name):
    content, ids, warning = ODD[name]
    notices.forget()
    vocabulary = read_directory(write(tmp_path, content))[0]
    assert ids_of(vocabulary) == ids
    messages = [record.message for record in caplog.records]
    assert len(messages) == bool(warning), messages
    assert warning in "".join(messages)
    assert "delete" not in "".join(messages)
    # The saved file is read as the same vocabulary.
    assert is_safe_in_lines(vocabulary) == (name != "blank at the end")
    (tmp_path / "vocab.txt").write_bytes(lines(vocabulary))
    assert read_vocabulary(tmp_path / "vocab.txt") == vocabulary


def test_placeholders_and_blank_tokens_match_no_text(tmp_path):
    content = lines([*PLAIN[:6], "", "", "the", *PLAIN[6:], "dog", ""])
    tokenizer = WordPieceTokenizer.from_directory(write(tmp_path, content))
    assert tokenizer.tokenize(["the cats dog", "[id 5 is free]"]).to_list() == [
        [8, 9, 10, 13], [1, 1, 1, 1, 1, 1],
    ]  # fmt: skip
    tokenizer.save(tmp_path / "saved")
    assert WordPieceTokenizer.from_directory(tmp_path / "saved").vocabulary == tokenizer.vocabulary


@pytest.mark.parity
@pytest.mark.parametrize("name", ODD)
def test_transformers_gives_the_same(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    ours = WordPieceTokenizer.from_directory(write(tmp_path, ODD[name][0]))
    # If a vocabulary lacks [MASK], transformers adds it with an id outside of the embedding.
    texts = [text for text in TEXTS if name != "no mask" or "[MASK]" not in text]
    first, last = ours.cls_token_id, ours.sep_token_id
    expected = [[first, *ids, last] for ids in ours.tokenize(texts).to_list()]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts).input_ids == expected
    ours.save(tmp_path / "ours")
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert saved(texts).input_ids == expected
    theirs.save_pretrained(tmp_path / "theirs")
    if name != "mark":  # transformers saves a token with the mark, and a second [PAD]
        again = WordPieceTokenizer.from_directory(tmp_path / "theirs")
        assert again.tokenize(texts).to_list() == ours.tokenize(texts).to_list()


def test_blank_lines_at_the_end_need_no_rows(tmp_path, caplog):
    """A file with more blank lines at its end than the embedding has rows is valid."""
    notices.forget()
    folder = write(tmp_path, lines([*PLAIN, "", "", ""]), vocab_size=11)
    assert read_directory(folder)[0] == [*PLAIN, ""]
    warning = (
        "1 blank line keeps its id, as in transformers; 2 blank lines at the end are dropped: "
    )
    assert warning + "the model has 11 token embeddings. Do not remove a line" in caplog.text
    assert WordPieceTokenizer(folder / "vocab.txt").vocabulary == PLAIN
    write(tmp_path, lines([*PLAIN, "", "bird"]), vocab_size=11)
    with pytest.raises(ConfigError, match="Expected a tokenizer of at most 11 tokens"):
        load_tokenizer_directory(folder)


def test_placeholders_differ_from_the_tokens_of_the_file(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(lines(["a", "a", "[id 0 is free]", "[id 3 is free]"]))
    vocabulary = read_vocabulary(tmp_path / "vocab.txt")
    assert vocabulary == ["[[id 0 is free]]", "a", "[id 0 is free]", "[id 3 is free]"]


def test_many_repeated_lines_give_one_short_warning(tmp_path, caplog):
    (tmp_path / "vocab.txt").write_bytes(lines([str(i % 5000) * 9 for i in range(10_000)]))
    assert len(read_vocabulary(tmp_path / "vocab.txt")) == 10_000
    (record,) = caplog.records
    assert "and 4,997 more" in record.message
    assert len(record.message) < 600
    for content in (b"\n" * 20_000 + b"a\n", lines(["a"] * 20_000)):
        (tmp_path / "vocab.txt").write_bytes(content)
        with pytest.raises(
            ConfigError, match="at most 10,000 blank and repeated lines .* received more"
        ):
            read_vocabulary(tmp_path / "vocab.txt")
    assert "\n" not in record.message

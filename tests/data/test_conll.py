"""CoNLL columns: schemes, comments, offsets, and all errors."""

import gzip
import io
from collections import Counter

import pytest

from keras_bert_zoo.data.conll import counted_types, join_words, read_conll
from keras_bert_zoo.data.spans import Entity
from keras_bert_zoo.data.tags import check_scheme, chunks, fault
from keras_bert_zoo.errors import ConfigError, DataError


def read(tmp_path, content, name="words.conll", **options):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    return read_conll(path, **options)


def refused(tmp_path, content, **options):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **options)
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


def spans(examples, index=0):
    text = examples.texts[index]
    return [(text[e.start : e.end], e.label) for e in examples.entities[index]]


def test_sentences_words_and_entities(tmp_path):
    content = (
        "-DOCSTART- -X- O O\n\nAda NNP I-NP B-PER\nLovelace NNP I-NP I-PER\nin IN O O\n"
        "London NNP I-NP B-LOC\n. . O O\n\n\n# NN O O\nis VBZ O O\n"
    )
    examples = read(tmp_path, content)
    assert examples.texts == ["Ada Lovelace in London .", "# is"]
    assert spans(examples) == [("Ada Lovelace", "PER"), ("London", "LOC")]
    assert examples.entities[0][0] == Entity(0, 12, "PER")
    assert examples.words[0] == [(0, 3), (4, 12), (13, 15), (16, 22), (23, 24)]
    assert examples.rows == [3, 10]
    assert examples.labels == ["LOC", "PER"]
    assert examples.where(1) == f"{tmp_path}/words.conll:10"


@pytest.mark.parametrize(
    ("tags", "options"),
    [
        ("I-PER I-PER O I-LOC I-LOC B-LOC", {}),  # IOB1
        ("B-PER I-PER O B-LOC I-LOC B-LOC", {}),
        ("B-PER E-PER O B-LOC E-LOC S-LOC", {}),
        ("B-PER L-PER O B-LOC L-LOC U-LOC", {}),  # BILOU
        ("B-PER E-PER O B-LOC E-LOC S-LOC", {"scheme": "bioes"}),
        ("I-PER I-PER O B-LOC I-LOC B-LOC", {"lenient": True}),
    ],
)
def test_every_scheme_spells_the_same_entities(tmp_path, tags, options):
    words = "Ada Lovelace saw New York Paris".split()
    lines = [" ".join(pair) for pair in zip(words, tags.split(), strict=True)]
    examples = read(tmp_path, "\n".join(lines), **options)
    assert spans(examples) == [("Ada Lovelace", "PER"), ("New York", "LOC"), ("Paris", "LOC")]


def test_tags_without_prefixes(tmp_path):
    assert spans(read(tmp_path, "a PER\nb PER\nc O\nd LOC\n")) == [("a b", "PER"), ("d", "LOC")]
    parts = read(tmp_path, "a DET\ndog NOUN\ncat NOUN\n")
    assert spans(parts) == [("a", "DET"), ("dog", "NOUN"), ("cat", "NOUN")]


def test_columns_are_found_or_given(tmp_path):
    numbered = "1\t他\tO\t-\n2\t在\tO\t-\n3\t北京\tB-LOC\t-\n"
    assert spans(read(tmp_path, numbered, tag=3)) == [("北京", "LOC")]
    assert spans(read(tmp_path, numbered, word=2, tag=-2)) == [("北京", "LOC")]
    ranges = "1-2\tdu\t_\n1\tde\tO\n2\tLyon\tB-LOC\n2.1\tx\t_\n"
    assert spans(read(tmp_path, ranges)) == [("Lyon", "LOC")]


UNER = "1\t{}\tO\t-\t-\n2\t{}\tB-LOC\t-\tlinpq\n3\t{}\tI-LOC\t-\tlinpq\n"


def test_the_column_that_looks_like_tags_is_taken(tmp_path, caplog):
    caplog.set_level("INFO", "keras_bert_zoo")
    examples = read(tmp_path, UNER.format("在", "北京", "市"))
    assert examples.texts == ["在北京市"]
    assert examples.entities == [[Entity(1, 4, "LOC")]]
    assert examples.note == "words from column 2, tags from column 3 of 5 (IOB2): LOC 1"
    assert caplog.messages == [f"{tmp_path}/words.conll: {examples.note}"]
    # Phrases are not entities, as in CoNLL-2003; Label Studio's CoNLL has two columns of nothing.
    for content in (
        "Ada NNP B-NP B-PER\nran VBD B-VP O\n",
        "-DOCSTART- -X- O O\nAda -X- _ B-PER\nran -X- _ O\n",
        "-DOCSTART- -X- O\n\nAda B-PER - x\nran O - y\n",
        "Ada\tB-PER\t\nran\tO\t\n",
        "Ada PER - x\nran O - y\nand O - x\n",
    ):
        assert spans(read(tmp_path, content)) == [("Ada", "PER")]
    parts = read(tmp_path, "a DET _\ndog NOUN _\n")
    assert spans(parts) == [("a", "DET"), ("dog", "NOUN")]


def test_columns_have_names_in_a_comment(tmp_path):
    names = "# global.columns = ID UPOS FORM NER NER:INNER\n"
    rows = "1\tB-X\tAda\tB-PER\tO\n2\tB-Y\tran\tO\tB-X\n"
    examples = read(tmp_path, names + rows)
    assert spans(examples) == [("Ada", "PER")]
    assert examples.note.startswith("words from column 3 (FORM), tags from column 4 (NER) of 5")
    assert spans(read(tmp_path, names + rows, tag=5)) == [("ran", "X")]


@pytest.mark.parametrize(
    ("tags", "options"),
    [
        ("B_PER I_PER O S_LOC", {"scheme": "IOBES", "lenient": True}),
        ("B_PER I_PER O B_LOC", {}),
        ("PER-B PER-I O LOC-B", {}),
        ("PER_B PER_I O LOC_B", {}),
        ("PER_B PER_L O LOC_U", {}),
        ("B-PER I_PER O B-LOC", {}),
        ("B-PER E-PER O W-LOC", {}),
        ("I_PER I_PER O I_LOC", {"scheme": "IOB1"}),
    ],
)
def test_prefixes_in_other_forms(tmp_path, tags, options):
    words = "Ada Lovelace saw Paris".split()
    lines = [" ".join(pair) for pair in zip(words, tags.split(), strict=True)]
    examples = read(tmp_path, "\n".join(lines), **options)
    assert spans(examples) == [("Ada Lovelace", "PER"), ("Paris", "LOC")]
    assert " read as " in examples.note


def test_types_that_only_look_like_prefixes_stay_types(tmp_path):
    cells = "a B_cell\nb T_cell\nc O\n"
    assert spans(read(tmp_path, cells)) == [("a", "B_cell"), ("b", "T_cell")]
    vitamins = "a VITAMIN-B\nb O\n"
    assert spans(read(tmp_path, vitamins, scheme="IO")) == [("a", "VITAMIN-B")]
    assert spans(read(tmp_path, vitamins, scheme="IOB2")) == [("a", "VITAMIN")]
    lower = read(tmp_path, "a b-per\nb i-per\nc o\n")
    assert spans(lower) == [("a b", "per")]


def test_warns_about_types_of_an_empty_field(tmp_path, caplog):
    read(tmp_path, "a -\nb O\nc X\n")
    assert "1 of 2 entities have the type '-', which looks like an empty field" in caplog.text
    caplog.clear()
    read(tmp_path, "".join(f"w{i} lemma{i}\n" for i in range(200)))
    assert "200 words have tags of 200 types, which looks like a column of words" in caplog.text


def test_words_can_be_read_without_tags(tmp_path):
    for content in ("Ada\nran\n", "Ada B-X O\nran O B-Y\n"):
        examples = read(tmp_path, content, tags=False)
        assert (examples.texts, examples.entities) == (["Ada ran"], None)
        assert examples.words == [[(0, 3), (4, 7)]]


def test_text_has_spaces_if_the_script_has(tmp_path):
    text, places = join_words(["在", "iPhone", "5", "上", "，", "好"])
    assert text == "在iPhone 5上，好"
    assert [text[start:end] for start, end in places] == ["在", "iPhone", "5", "上", "，", "好"]
    assert join_words(["서울", "은", "good"])[0] == "서울 은 good"
    assert join_words(["a", "b"], "none")[0] == "ab"
    assert join_words(["他", "们"], "space")[0] == "他 们"
    commented = "# text = It's  here.\nIt\tO\n's\tO\nhere\tB-LOC\n.\tO\n"
    examples = read(tmp_path, commented)
    assert examples.texts == ["It's  here."]
    assert spans(examples) == [("here", "LOC")]
    assert read(tmp_path, commented, join="space").texts == ["It 's here ."]
    other = read(tmp_path, "# text = something else\nIt\tO\nhere\tB-LOC\n")
    assert other.texts == ["It here"]


def test_words_that_look_like_comments(tmp_path):
    examples = read(tmp_path, "#\tO\n#hashtag\tB-X\n# a comment\nand\tO\n")
    assert examples.texts == ["# #hashtag and"]


def test_gzip_streams_and_line_ends(tmp_path):
    path = tmp_path / "words.gz"
    path.write_bytes(gzip.compress(b"Ada B-PER\r\nran O\r\n\r\n"))
    assert read_conll(path).texts == ["Ada ran"]
    assert read_conll(io.BytesIO("Zoë B-PER\n".encode())).texts == ["Zoë"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "a B-X\nb Q-X\n",
            {},
            "words.conll:2: expected a tag with a prefix of IOB2, received 'Q-X'",
        ),
        ("a O\nb I-X\nc B-X\nd O\ne B-X\n", {}, "words.conll:2: expected I- only within an ent"),
        ("a B-X\nb E-X\n", {"scheme": "IOB2"}, "words.conll:2: expected a tag of IOB2 (B-TYPE"),
        ("a O\nb I-X\n", {"scheme": "IOB2"}, "words.conll:2: expected I- only within an ent"),
        ("a B-X\n", {"scheme": "IOB1"}, "words.conll:1: expected B- only between two entities"),
        ("a B-X\nb O\n", {"scheme": "IOBES"}, "words.conll:2: expected the end of an entity, re"),
        (
            "a B-X\n\nb S-X\n",
            {},
            "words.conll:1: expected the end of an entity, received 'B-X' as the",
        ),
        ("a B-X\nb I-Y\nc S-X\n", {}, "words.conll:2: expected I- only within an entity of its"),
        ("a x O\nb y\nc z O\n", {}, "words.conll:2: expected 3 columns separated by spaces, as"),
        ("a\tO\nb\t\nc\tO\n", {}, "words.conll:2: expected a tag, but its column is empty"),
        ("a\tO\n \tO\n", {}, "words.conll:2: expected a word, but its column is empty"),
        ("a -\nb -\n", {}, "words.conll: expected different tags, received only '-'"),
        ("a O -\nb B-X -\n", {"tag": 3}, "words.conll: expected different tags, received only '-'"),
        ("a O\n", {"tag": 3}, "words.conll: expected the tags in column 3, received lines of 2"),
        ("a O\n", {"word": 2, "tag": 2}, "words.conll: expected words and tags in two columns, r"),
        ("a\nb\n", {}, "words.conll: expected columns of words and tags, separated by tabs or spa"),
        (
            "a B-X O\nb O B-Y\n",
            {},
            "words.conll: expected one column of tags among 3, but several look like tags (colum",
        ),
        (
            "a DET DT\nb NOUN NN\n",
            {},
            "words.conll: expected one column of tags among 3, but none looks like tags (column 2:",
        ),
        (
            "B-X a\nO b\n",
            {},
            "words.conll: expected words in column 1, received values that look like tags: B",
        ),
        (
            "a B_X\nb I_X\nc Y\n",
            {},
            "words.conll:3: expected all tags with a prefix or none, received",
        ),
        (
            "a O\nb X_B\n",
            {},
            "words.conll:2: expected a type or a tag with a prefix, received 'X_B', w",
        ),
        ("\n# nothing\n", {}, "words.conll: expected at least one sentence, received none"),
    ],
)
def test_refused(tmp_path, content, options, message):
    assert refused(tmp_path, content, **options).startswith(message)


def test_options_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="expected join of auto, space, none, received 'tab'"):
        read(tmp_path, "a O\n", join="tab")
    with pytest.raises(ConfigError, match="expected tag as a column from 1"):
        read(tmp_path, "a O\n", tag=0)
    with pytest.raises(ConfigError, match="expected a scheme of IOB1, IOB2"):
        read(tmp_path, "a O\n", scheme="XYZ")
    with pytest.raises(DataError, match="there is no such file"):
        read_conll(tmp_path / "none.conll")
    (tmp_path / "words.conll").write_bytes(b"\xff O\n")
    with pytest.raises(DataError, match=r"words.conll:1: byte 0xff"):
        read_conll(tmp_path / "words.conll")


def test_scheme_names():
    assert [check_scheme(name) for name in ("bio", "BILOU", "IOB1", "Words")] == [
        "IOB2", "IOBES", "IOB1", "words",
    ]  # fmt: skip


def test_faults_and_chunks_agree_on_whole_sentences():
    assert fault("B-X I-X E-X S-Y O".split(), "IOBES") is None
    assert chunks("B-X I-X E-X S-Y O".split(), "IOBES") == [(0, 3, "X"), (3, 4, "Y")]
    assert chunks([], "IOB2") == []


def test_tags_without_a_type_are_of_one_type(tmp_path):
    examples = read(tmp_path, "Ada B\nLove I\nsings O\nEve B\n")
    assert examples.entities == [[Entity(0, 8, "ENTITY"), Entity(15, 18, "ENTITY")]]
    assert "(IOB2" in examples.note
    examples = read(tmp_path, "Ada B\nLove E\nEve S\n. O\n")
    assert examples.entities == [[Entity(0, 8, "ENTITY"), Entity(9, 12, "ENTITY")]]


def test_control_characters_of_types_are_escaped_in_notes():
    assert counted_types(Counter({"PER": 2, "\x1b[31mX": 1})) == "PER 2, '\\x1b[31mX' 1"

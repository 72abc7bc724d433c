"""SemEval-2010 task 8's format, and invalid markers."""

import gzip

import pytest

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.semeval import check_markers, marker_fault, read_semeval
from keras_bert_zoo.errors import DataError

GOOD = '"The <e1>author</e1> of a <e2>book</e2>."'


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "train.txt"
        path.write_text("\n".join(lines))
        return path

    return write


def test_reads_the_original_format(tmp_path):
    blocks = [
        f'1\t{GOOD}\r\nProduct-Producer(e2,e1)\r\nComment: Not "sure", 2\tor 3.\r\n\r\n',
        '8\t"A "quote" in <e2>it</e2> and <e1>é\u3000x</e1>"\r\nOther\r\nComment:\r\n\r\n',
        f"9\t{GOOD}\r\nOther\r\n\r\n",
    ]
    path = tmp_path / "TRAIN_FILE.TXT.gz"
    path.write_bytes(gzip.compress("".join(blocks).encode()))
    examples = read_semeval(path)
    assert examples.texts[0] == GOOD[1:-1]
    assert examples.texts[1] == 'A "quote" in <e2>it</e2> and <e1>é\u3000x</e1>'
    assert examples.labels == ["Product-Producer(e2,e1)", "Other", "Other"]
    assert examples.rows == [1, 5, 9]
    assert read_semeval(path, labelled=False).labels is None


def test_reads_a_test_file_without_relations(write):
    examples = read_semeval(write(f"1\t{GOOD}", f"2\t{GOOD}", ""), labelled=False)
    assert (len(examples), examples.labels) == (2, None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            (f"1\t{GOOD}", "", "Other"),
            ":2: expected a relation after its text, received an empty line",
        ),
        (
            (f"1\t{GOOD}", f"2\t{GOOD}"),
            ":2: expected a relation after line 1, received another text",
        ),
        ((f"1\t{GOOD}", "Other", f"2\t{GOOD}"), ":3: expected an empty line after line 1"),
        ((f"1\t{GOOD}", "Comment: x"), ":2: expected a number, a tab and a text|:1: "),
        (
            (f"1\t{GOOD}", "Other", "Cause"),
            ":3: expected Comment: or an empty line .* received 'Cause'",
        ),
        ((f"1\t{GOOD}", "Other", "Comment:", "x"), ":4: expected an empty line between"),
        ((f"1\t{GOOD}", "not a relation"), ":2: expected a relation such as .*'not a relation'"),
        ((f"1\t{GOOD}",), ":1: expected a relation after this text, received none"),
        (
            (f"1 {GOOD}", "Other"),
            ":1: expected a number, a tab and a text in double quotes, received",
        ),
        (("1\tno quotes", "Other"), ":1: expected a number, a tab"),
        (
            (f"1\t{GOOD}", "Other", "", f"1\t{GOOD}", "Other"),
            ":4: expected a new number, received 1 as",
        ),
        (('1\t"<e1>a</e1> b"', "Other"), ":1: expected <e2> once, received it 0 times; each text"),
        (("",), ": expected at least one example, but the file is empty"),
    ],
)
def test_refuses_other_forms(write, lines, message):
    with pytest.raises(DataError, match=rf"train\.txt({message})"):
        read_semeval(write(*lines))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<e1>a</e1> <e2>b</e2>", None),
        ("<e2>b</e2><e1>a</e1>", None),
        ("a b", "expected <e1> once, received it 0 times"),
        ("<e1>a <e2>b</e2>", "expected </e1> once, received it 0 times"),
        ("<e1>a</e1> <e1>c <e2>b</e2>", "expected <e1> once, received it 2 times"),
        ("</e1>a<e1> <e2>b</e2>", "expected <e1> before </e1>, received it after </e1>"),
        ("<e1>a <e2>b</e2></e1>", "expected separate entities, received <e2> within <e1>"),
        ("<e1>a <e2>b</e1> c</e2>", "expected separate entities, received <e2> within <e1>"),
        ("<e1> </e1> <e2>b</e2>", "expected text between <e1> and </e1>, received none"),
    ],
)
def test_markers(text, fault):
    message = marker_fault(text)
    assert message is None if fault is None else fault in message
    if fault:
        with pytest.raises(DataError, match="a.csv:7: expected"):
            check_markers(Examples([text], rows=[7], path="a.csv"))

"""Sentence splitting: the rule, case by case; time; the user's own function."""

import re
import time

import pytest

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining.sentences import sentence_splitter, split_by_rules, split_lines

# The expected sentences are separated by "|".
CASES = """
One. Two! Three? Four|One.;Two!;Three?;Four
Wait... what? Yes... No|Wait... what?;Yes...;No
He said: "Stop." Then (at last.) He left.|He said: "Stop.";Then (at last.);He left.
“Is it?” he asked. ‘It is.’ «Oui.» Fin|“Is it?” he asked.;‘It is.’;«Oui.»;Fin
He left. "Stop," she said.|He left.;"Stop," she said.
¡Hola! ¿Qué tal? Bien.|¡Hola!;¿Qué tal?;Bien.
Mr. Smith met Dr. (Prof. Li) vs. Mrs. Jones.|Mr. Smith met Dr. (Prof. Li) vs. Mrs. Jones.
J. Smith, e.g. The Hobbit, U.S. Army.|J. Smith, e.g. The Hobbit, U.S. Army.
See Fig. 3, No. 5 and p. 7! Is it? No. Yes.|See Fig. 3, No. 5 and p. 7!;Is it?;No.;Yes.
Am 3. Oktober 1990. Danach z.B. Bonn bzw. Berlin.|Am 3. Oktober 1990.;Danach z.B. Bonn bzw. Berlin.
Version 3.14 is at example.com. 7 files.|Version 3.14 is at example.com.;7 files.
It cost 5 dollars. éa va? no. Éa va.|It cost 5 dollars. éa va? no.;Éa va.
He left . The end . . . And so on|He left .;The end . . .;And so on
What?! No!! Yes.|What?!;No!!;Yes.
你好。我说：“好的。”然后呢？！走了|你好。;我说：“好的。”;然后呢？！;走了
他说……好。真的…是。「はい。」終わり。|他说……;好。;真的…;是。;「はい。」;終わり。
价格是３．５元。完．下一|价格是３．５元。;完．;下一
我用 Python 3.14。It works. 是|我用 Python 3.14。;It works.;是
यह है। वह है॥ هل هذا؟ نعم۔|यह है।;वह है॥;هل هذا؟;نعم۔
""".strip().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_rule(case):
    text, expected = case.split("|")
    assert split_by_rules(text) == expected.split(";")


@pytest.mark.parametrize("text", ["", " \n\t", "\n"])
def test_blank(text):
    assert split_by_rules(text) == split_lines(text) == []


def test_every_character_is_kept():
    text = "\n".join(case.partition("|")[0] for case in CASES)
    assert re.sub(r"\s", "", "".join(split_by_rules(text))) == re.sub(r"\s", "", text)
    assert split_by_rules("A. B.\nc") == ["A. B.", "c"]  # a line feed ends a sentence
    assert split_lines("A. B.\n\n c\n") == ["A. B.", "c"]


@pytest.mark.parametrize("unit", [".", ". ", ".'", ". (", "。", "…", "(", "A.", "1. ", " "])
def test_the_time_is_linear(unit):
    begin = time.process_time()
    split_by_rules("x" + unit * 100_000)
    assert time.process_time() - begin < 5  # quadratic time would take minutes


def test_own_function(tmp_path, monkeypatch):
    (tmp_path / "own_sentences.py").write_text(
        "number = 1\ndef split(text): return text.split('|')\ndef wrong(text): return text\n"
    )
    monkeypatch.chdir(tmp_path)
    assert sentence_splitter("own_sentences:split")("a|b") == ["a", "b"]
    with pytest.raises(DataError, match="a list of strings from own_sentences:wrong, received str"):
        sentence_splitter("own_sentences:wrong")("a")
    for name, message in {
        "own_sentences:number": "'own_sentences:number' is of type int",
        "own_sentences:none": "cannot be imported: AttributeError",
        "no_such_module:split": "cannot be imported: ModuleNotFoundError",
        "nltk": 'expected sentences to be "lines", "rules" or "MODULE:FUNCTION"',
        ":split": 'expected sentences to be "lines", "rules" or "MODULE:FUNCTION"',
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            sentence_splitter(name)

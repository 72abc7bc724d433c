"""The API reference has an entry with an example for every public name."""

import doctest
import importlib
import re

import pytest

import keras_bert_zoo
from tests.documents import ROOT

ENTRY = re.compile(r"^\.\. autoapi(?:class|function):: keras_bert_zoo\.([\w.]+)$", re.MULTILINE)
ENTRIES = {
    name.rpartition(".")[2]: name
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for name in ENTRY.findall(page.read_text("utf-8"))
}
# Heading -> the text below it. Examples on the page are run by test_pages.py.
SECTIONS = {
    heading: text
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for heading, text in re.findall(
        r"^## (\w+)$(.*?)(?=^## |\Z)", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
}
NAMES = sorted(set(keras_bert_zoo.__all__) - {"__version__"})


def test_every_public_name_has_an_entry():
    assert set(NAMES) | {"Task", "TrainableTask"} == set(ENTRIES)


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_names_the_module_that_defines_it(name):
    module = f"keras_bert_zoo.{ENTRIES[name]}".rpartition(".")[0]
    assert getattr(importlib.import_module(module), name) is getattr(keras_bert_zoo, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_has_an_example(name):
    docstring = getattr(keras_bert_zoo, name).__doc__
    assert doctest.DocTestParser().get_examples(docstring) or "```python" in SECTIONS[name]

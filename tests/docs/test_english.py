"""The pages are in plain English: short sentences, without the phrases that the project gave up."""

import re

import pytest

from tests.documents import PAGES, ROOT, page_name

# Markers of the style that the project left; a reader of any English should understand each page.
PHRASES = re.compile(
    r"\b(stands|stand behind|hangs on|told|tells|asked|behind|beside|so many|as many|is none of"
    r"|of its own|for one|there is|there are)\b|(?:^|[.!?]\s+)What\b",
    re.IGNORECASE,
)


def prose(text: str) -> list[str]:
    """The sentences of a page, without code, tables, headings and links' targets."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(\||#).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return [
        sentence
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z0-9\"'])", paragraph)
        if re.search(r"\w", sentence)
    ]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_sentences_are_short(page):
    sentences = prose(page.read_text("utf-8"))
    words = [len(re.findall(r"[\w'.,%/-]*\w[\w'.,%/-]*", sentence)) for sentence in sentences]
    if not words:
        return  # a page of code and tables
    assert sum(words) / len(words) < 20
    longest = max(zip(words, sentences, strict=True))
    assert longest[0] <= 45, longest


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_old_phrases_are_gone(page):
    assert not [s for s in prose(page.read_text("utf-8")) if PHRASES.search(s)]


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 200
    assert len(text.split()) <= 1600

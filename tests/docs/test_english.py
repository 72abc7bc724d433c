"""The pages are in plain English: short sentences without the phrases of the old style."""

import ast
import io
import re
import tokenize

import pytest

from tests.documents import PAGES, ROOT, page_name

# Markers of the old style, which is hard to read.
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


# In code, the same phrases in docstrings, comments and messages, and names that say too little.
CODE_PHRASES = re.compile(
    r"\b(stands|stand behind|hangs on|told|tells|asked|behind|beside|so many|as many|is none of"
    r"|are none of|of its own|of their own)\b|\bfor one[,.;:)]|(?:^|[.!?]\s+)What\b(?!:)",
    re.IGNORECASE,
)
VAGUE_NAMES = re.compile(r"^(found|told|kept|wanted|asked)$")
MODULES = sorted((ROOT / "keras_bert_zoo").rglob("*.py"))
TEXT_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}


def faults(source: str) -> list[str]:
    """The phrases and names of a module that a reader should not meet."""
    result = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXT_TOKENS:
            text = " ".join(token.string.split()).lstrip("#\"' ")
            result += [f"{token.start[0]}: {m[0]!r}" for m in CODE_PHRASES.finditer(text)]
    for node in ast.walk(ast.parse(source)):
        name = getattr(node, "arg", None)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        if isinstance(node, ast.Name | ast.arg) and name and VAGUE_NAMES.match(name):
            result.append(f"{node.lineno}: the name {name!r}")
    return result


def test_the_code_is_in_plain_english():
    found = {page_name(path): faults(path.read_text("utf-8")) for path in MODULES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_faults_sees_phrases_and_names():
    assert (
        len(faults('def f(found):\n    """What it tells."""\n    return found  # so many\n')) == 4
    )
    assert faults('def f(what):\n    """Returns one label for one text."""\n') == []

"""Settings of Sphinx. The API reference is made by static analysis: the package is not imported."""

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_INIT = (_ROOT / "keras_bert_zoo" / "__init__.py").read_text("utf-8")

project = "keras_bert_zoo"
author = "The keras_bert_zoo developers"
copyright = author
release = re.search(r'^__version__ = "(.+)"$', _INIT, re.MULTILINE)[1]

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
exclude_patterns = ["_build"]
highlight_language = "text"

html_theme = "furo"
html_title = f"keras_bert_zoo {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_heading_anchors = 3

# The pages of docs/api name their objects; only these appear.
autoapi_dirs = [str(_ROOT / "keras_bert_zoo")]
autoapi_ignore = [
    f"*/keras_bert_zoo/{folder}/*"
    for folder in (
        "checkpoints",
        "cli",
        "data",
        "directories",
        "export",
        "heads",
        "layers",
        "metrics",
    )
]
autoapi_generate_api_docs = False
autoapi_add_toctree_entry = False
autoapi_options = []
autoapi_python_class_content = "class"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style"), ("Source", "notes")]
suppress_warnings = ["autoapi.python_import_resolution"]


def _mark_code(app, what, name, obj, options, lines):
    """Turns Markdown's `code` in docstrings into reStructuredText's ``code``."""
    text = re.sub(r"(?<![`\\:])`([^`]+)`(?!`)", r"``\1``", "\n".join(lines))
    text = re.sub(r"``(?=\w)(?<=\w``)", r"``\\ ", text)  # ``Token``s needs a separator
    lines[:] = text.split("\n")


def setup(app):
    """Registers the translation of docstrings, ahead of napoleon's."""
    app.connect("autodoc-process-docstring", _mark_code, priority=400)

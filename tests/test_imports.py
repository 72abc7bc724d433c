"""Imports go one way along the data's flow, and importing the package stays cheap."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_bert_zoo

PACKAGE = Path(keras_bert_zoo.__file__).parent

# From the bottom to the top. A module may import its own part and the parts on lines above; parts
# on one line know nothing of each other. Imports inside functions and under TYPE_CHECKING are free.
ORDER = (
    ("errors",),
    ("files", "arrays", "notices", "config_keys"),
    ("schema", "directories"),
    ("config",),
    ("text", "layers"),
    ("data",),
    ("metrics",),
    ("encoders",),
    ("heads",),
    ("checkpoints",),
    ("adaptation",),
    ("presets",),
    ("training",),
    ("tasks",),
    ("pretraining", "compression", "explain"),
    ("export",),
    ("serving",),
    ("cli",),
    ("__main__",),
)
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(module: str) -> str:
    """keras_bert_zoo.text.wordpiece.tokenizer -> text."""
    return module.split(".")[1]


def at_module_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yields the imports that run when the module is imported, those in if and try included."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If):
            if "TYPE_CHECKING" not in ast.dump(statement.test):
                yield from at_module_level(statement.body)
            yield from at_module_level(statement.orelse)
        elif isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from at_module_level(handler.body)
            yield from at_module_level(statement.body + statement.orelse + statement.finalbody)
        elif isinstance(statement, ast.With | ast.ClassDef):
            yield from at_module_level(statement.body)


def imported(source: str) -> list[str]:
    """Names the modules of this package that a source imports at module level."""
    found = []
    for statement in at_module_level(ast.parse(source).body):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif statement.module == "keras_bert_zoo":
            # `from keras_bert_zoo import X`: a public name stands for its module.
            names = [
                keras_bert_zoo._MODULES.get(alias.name, f"keras_bert_zoo.{alias.name}")
                for alias in statement.names
                if alias.name != "__version__"
            ]
        else:
            names = [statement.module or ""]
        found += [name for name in names if name.startswith("keras_bert_zoo.")]
    return found


def test_every_part_has_its_place_in_the_order():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert parts <= set(RANKS), "add the new part to ORDER where the data's flow has it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = [
        module
        for module in imported(path.read_text("utf-8"))
        if part_of(module) != own and RANKS[part_of(module)] >= RANKS[own]
    ]
    assert not wrong, f"{own} may not import {wrong}; see ORDER"


def test_the_check_sees_imports():
    source = """
import keras_bert_zoo.text.wordpiece.tokenizer
from keras_bert_zoo import Encoder, __version__, errors
from keras_bert_zoo.heads import classifier
try:
    from keras_bert_zoo.cli import main
except ImportError:
    import keras_bert_zoo.serving
if TYPE_CHECKING:
    from keras_bert_zoo.export import hidden
def late():
    from keras_bert_zoo.export import hidden
"""
    assert [part_of(module) for module in imported(source)] == [
        "text", "encoders", "errors", "heads", "serving", "cli",
    ]  # fmt: skip


def test_public_names_are_the_same_in_all_three_places():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    checking = next(
        node for node in tree.body if isinstance(node, ast.If) and "TYPE" in ast.dump(node.test)
    )
    typed = {
        alias.name: statement.module
        for statement in checking.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert typed == keras_bert_zoo._MODULES
    assert sorted(keras_bert_zoo.__all__) == sorted([*typed, "__version__"])
    assert set(keras_bert_zoo.__all__) <= set(dir(keras_bert_zoo))


@pytest.mark.parametrize("name", sorted(keras_bert_zoo._MODULES))
def test_public_names_load(name):
    value = getattr(keras_bert_zoo, name)
    assert value is getattr(importlib.import_module(keras_bert_zoo._MODULES[name]), name)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'keras_bert_zoo' has no attribute 'Nothing'"):
        _ = keras_bert_zoo.Nothing


def loaded_after(statement: str) -> set[str]:
    """Names what a fresh interpreter has imported after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )
    return set(finished.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import keras_bert_zoo",
        "import keras_bert_zoo.errors",
        "from keras_bert_zoo import BertZooError, __version__",
        "from keras_bert_zoo.data.tables import read_table",
    ],
)
def test_importing_does_not_import_tensorflow(statement):
    heavy = {"keras", "keras_hub", "keras_nlp", "tensorflow", "tensorflow_text", "torch"}
    assert not loaded_after(statement) & heavy

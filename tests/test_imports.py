"""Modules import only lower parts, and importing the package does not import TensorFlow."""

import ast
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_bert_zoo

PACKAGE = Path(keras_bert_zoo.__file__).parent

# From the bottom to the top. A module may import its own part and the parts on the lines above.
# Parts on one line do not import each other. The rule includes imports in functions, under
# TYPE_CHECKING and by `importlib.import_module`.
ORDER = (
    ("errors", "keras_registration"),
    ("validation",),
    (
        "files",
        "arrays",
        "extras",
        "litert_scope",
        "notices",
        "processors",
        "config_keys",
        "config_values",
    ),
    ("schema", "directories"),
    ("config",),
    ("text", "layers"),
    ("data",),
    ("checkpoints", "metrics"),
    ("encoders",),
    ("heads",),
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

# Exceptions: one lazy import in each public method that calls a higher part.
FACADES = {
    ("encoders.encoder", "presets.encoder_files"),  # Encoder.from_preset and Encoder.save
    ("text.tokenizer", "presets.resolve"),  # Tokenizer.from_preset
    ("tasks.task", "export"),  # Task.export
}

# Modules that import other modules by name: for public names and subcommands.
LAZY_TABLES = {"keras_bert_zoo", "keras_registration", "cli.main", "cli.tasks"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def name_of(path: Path) -> str:
    """keras_bert_zoo/text/unicode/__init__.py -> text.unicode."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in modules()}


def part_of(module: str) -> str:
    """text.wordpiece.tokenizer -> text."""
    return module.split(".")[0]


def imported(source: str) -> set[str]:
    """Returns the modules of this package that a source imports."""
    result = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                name = f"{module}.{alias.name}"
                public = keras_bert_zoo._MODULES if module == "keras_bert_zoo" else {}
                is_module = name.removeprefix("keras_bert_zoo.") in NAMES
                result.add(public.get(alias.name, name if is_module else module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            result |= {
                literal.value
                for literal in ast.walk(node)
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str)
            }
    own = {name for name in result if name.startswith("keras_bert_zoo.")}
    return {name.removeprefix("keras_bert_zoo.") for name in own}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules that it imports, without the facades' lazy imports."""
    graph = {}
    for path in modules():
        name = name_of(path)
        targets = imported(path.read_text("utf-8")) - {name}
        graph[name] = {target for target in targets if (name, target) not in FACADES}
    return graph


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Returns the strongly connected components of more than one module."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph.get(waiting.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    reach = {name: reached(name) for name in graph}
    return {
        frozenset({name} | {other for other in reach[name] if name in reach.get(other, ())})
        for name in graph
        if name in reach[name]
    }


def test_order_contains_every_part():
    parts = {part_of(name) for name in NAMES}
    assert parts <= set(RANKS), "add the new part to ORDER, above the parts that it imports"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_imports_go_one_way(name):
    own = part_of(name)
    wrong = [
        target
        for target in sorted(imports()[name])
        if part_of(target) != own and RANKS[part_of(target)] >= RANKS[own]
    ]
    assert not wrong, f"{own} may not import {wrong}; see ORDER"


def test_there_is_no_cycle():
    assert cycles(imports()) == set()


def test_the_facades_are_the_only_exceptions():
    graph = {name_of(path): imported(path.read_text("utf-8")) for path in modules()}
    assert all(target in graph[name] for name, target in FACADES)


def test_modules_are_not_imported_by_string():
    lazy = {
        name_of(path) if path != PACKAGE / "__init__.py" else "keras_bert_zoo"
        for path in PACKAGE.rglob("*.py")
        if "import_module(" in path.read_text("utf-8")
    }
    assert lazy == LAZY_TABLES


def test_imported_finds_all_imports():
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
    from keras_bert_zoo.data.tables import read_table
    importlib.import_module("keras_bert_zoo.metrics.classification")
"""
    assert sorted(map(part_of, imported(source) - {""})) == [
        "cli", "data", "encoders", "errors", "export", "heads", "metrics", "serving", "text",
    ]  # fmt: skip


def test_cycles_finds_a_cycle():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert cycles(graph) == {frozenset("abc")}


def test_public_names_are_the_same_in_all_lists():
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
    """Returns the modules that a new interpreter has imported after a statement."""
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

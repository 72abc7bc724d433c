"""Recipes are complete, and their commands have options that exist."""

import shlex
import tomllib

import pytest

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.main import COMMANDS, command_parser
from tests.documents import ROOT

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.toml"))
FACTS = ("data", "hardware", "duration", "score")
# Commands that a recipe may name. Their options are checked as soon as the commands exist.
NAMES = {"vocabulary", "pretraining-data", "pretrain", "glue"}


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request):
    return tomllib.loads(request.param.read_text("utf-8"))


def test_there_are_recipes():
    assert len(RECIPES) >= 5


def test_every_fact_has_a_source(recipe):
    assert recipe["paper"]
    assert recipe["differences"]
    number, _, rest = recipe["arxiv"].partition(".")
    assert len(number) == 4
    assert len(rest) == 5
    assert set(recipe["sources"]) == {*FACTS, "commands"}
    for name in FACTS:
        assert recipe[name], name


def test_the_commands_accept_these_options(recipe):
    names = []
    for command in recipe["commands"]:
        program, name, *arguments = shlex.split(command)
        assert program == "keras-bert-zoo"
        assert name in NAMES
        names.append(name)
        if name in COMMANDS:
            options.parse(command_parser(name, arguments), arguments)
    assert names[-1] == "glue"
    assert "pretrain" in names


def test_each_recipe_is_on_the_page():
    page = (ROOT / "docs" / "glue.md").read_text("utf-8")
    assert not [path.name for path in RECIPES if f"recipes/{path.name}" not in page]

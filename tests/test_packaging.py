"""setup.cfg packages every data file, and its versions agree."""

import configparser
import re
from pathlib import Path

import pytest

import keras_bert_zoo


@pytest.fixture(scope="module")
def setup(repository) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repository / "setup.cfg", "utf-8")
    return parser


def test_every_data_file_of_the_package_is_packaged(repository, setup):
    package = repository / "keras_bert_zoo"
    packaged = {
        path
        for name, patterns in setup["options.package_data"].items()
        for pattern in patterns.split()
        for path in (repository / name.replace(".", "/")).glob(pattern)
    }
    expected = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and ".tmp" not in path.name
    }
    assert expected - packaged == set(), "name these files in setup.cfg, options.package_data"


def test_every_folder_with_modules_is_a_package(repository):
    folders = {path.parent for path in (repository / "keras_bert_zoo").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_tensorflow_and_its_ops_have_one_minor_version(setup):
    bounds = {}
    for line in setup["options"]["install_requires"].split("\n"):
        if line.startswith("tensorflow"):
            name, bound = line.split(" ", 1)
            bounds[name] = bound
    assert set(bounds) == {"tensorflow", "tensorflow-text", "tensorflow-serving-api"}
    assert len(set(bounds.values())) == 1


def test_the_version_is_that_of_the_package(setup):
    assert setup["metadata"]["version"] == "attr: keras_bert_zoo.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", keras_bert_zoo.__version__)


@pytest.mark.parametrize("name", ["tools/test", ".ci/run"])
def test_commands_are_executable(repository: Path, name):
    assert (repository / name).stat().st_mode & 0o111


def test_no_module_is_long(repository):
    lines = {
        path.relative_to(repository): len(path.read_text("utf-8").splitlines())
        for path in (repository / "keras_bert_zoo").rglob("*.py")
    }
    assert {path: count for path, count in lines.items() if count > 450} == {}

"""--config: a file with the flags' names."""

import json
import os

import pytest

from keras_bert_zoo.cli import train
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.options import parse, peek
from keras_bert_zoo.cli.training_options import set_batch_size
from keras_bert_zoo.errors import ConfigError

NEEDED = {"preset": "p", "train": "t.csv", "output": "o"}


@pytest.fixture
def read(tmp_path):
    """Parses a command line of `train` with a config file."""

    def read(values, *argv, name="config.json"):
        path = tmp_path / name
        path.write_text(values if isinstance(values, str) else json.dumps(values), "utf-8")
        words = ["--config", str(path), *argv]
        return parse(command_parser("train", words), words)

    return read


def test_json_values_equal_flags(read):
    args = read(
        NEEDED
        | {
            "learning-rate": 1e-4,
            "batch_size": 16,  # as in Python
            "columns": ["a", "b"],
            "keep-head": True,
            "delimiter": ";",
            "dev": None,
            "weight-decay": 0,
        }
    )
    assert (args.preset, args.train, args.output) == ("p", "t.csv", "o")
    assert (args.learning_rate, args.batch_size, args.weight_decay) == (1e-4, 16, 0.0)
    assert (args.columns, args.keep_head, args.delimiter, args.dev) == (["a", "b"], True, ";", None)
    assert args.epochs == 3  # a default that is not in the file


@pytest.mark.parametrize(
    ("given", "replicas", "expected"),
    [({}, 2, 32), ({"batch-size": 7}, 2, 7), ({"per-replica-batch-size": 7}, 2, 14)],
)
def test_the_batch_size_of_all_replicas(read, given, replicas, expected):
    args = read(NEEDED | given)
    set_batch_size(args, 32, replicas)
    assert args.batch_size == expected


def test_flags_override_the_file(read):
    values = NEEDED | {"epochs": 5, "keep-head": True, "json": True}
    args = read(values, "--epochs", "7", "--no-keep-head", "--output", "other")
    assert (args.epochs, args.keep_head, args.output, args.json) == (7, False, "other", True)


def test_the_toml_of_the_help(read):
    args = read(train.EXAMPLES.partition("train.toml:\n")[2].replace("  ", ""), name="train.toml")
    assert (args.preset, args.learning_rate) == ("minilm_l6_en_uncased", 1e-4)


def test_required_options_may_be_in_the_file(read):
    args = read({"preset": "p", "train": "t"}, "--output", "o")
    assert (args.preset, args.output) == ("p", "o")
    with pytest.raises(ConfigError, match="required: --output"):
        read({"preset": "p", "train": "t"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3, "x": 1}, "unknown options: 'epoch' (did you mean 'epochs'?), 'x'"),
        ({"config": "c.json"}, "unknown options: 'config'"),
        ({"help": True}, "unknown options: 'help'"),
        ({"x" * 70_000: 1}, f"unknown options: '{'x' * 99}"),
        ({"epochs": "three"}, "epochs: expected a whole number of at least 1, received 'three'"),
        ({"epochs": 2.5}, "epochs: expected a whole number of at least 1, received '2.5'"),
        ({"epochs": True}, "epochs: expected a string or a number, received True"),
        ({"training": {"epochs": 3}}, "unknown options: 'training'"),
        ({"text": ["a"]}, "text: expected a string or a number, received ['a']"),
        ({"columns": [1]}, "columns: expected a list of names, received [1]"),
        ({"json": "yes"}, "json: expected true or false, received 'yes'"),
        ({"task": "ranking"}, "expected one of classification, multi-label, regression"),
        ("[]", "expected a JSON object with options by name"),
        ("{", "not valid JSON (a TOML file ends in .toml)"),
    ],
)
def test_invalid_files(read, values, message):
    with pytest.raises(ConfigError) as caught:
        read(values)
    assert message in str(caught.value)
    assert "config.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_toml(read):
    with pytest.raises(ConfigError, match=r"c\.toml: not valid TOML"):
        read("epochs = ", name="c.toml")


def test_a_missing_file(refused):
    assert refused("train", "--config", "nowhere.toml") == (
        "nowhere.toml cannot be read: No such file or directory."
    )


@pytest.mark.parametrize("name", ["c.toml", "c.json"])
def test_unreadable_files(tmp_path, name):
    path = tmp_path / name
    words = ["--config", str(path)]

    def message():
        assert peek(words, "task") is None
        with pytest.raises(ConfigError) as caught:
            parse(command_parser("train", words), words)
        return str(caught.value)

    with open(path, "wb") as file:
        file.truncate(3_000_000_000)  # a hole
    assert message() == f"{path} is larger than 1,000,000 bytes, the limit for this file."
    path.write_bytes(b"\xff")
    assert message() == f"{path}: not valid UTF-8: invalid start byte"
    path.write_text("a = " + "[" * 100_000)
    assert f"{path}: not valid " in message()
    for target, reason in (("/dev/zero", "it is not a regular file"), (name, "symbolic links")):
        path.unlink()
        path.symlink_to(target)
        assert f"{path} cannot be read: " in message()
        assert reason in message()
    path.unlink()
    os.mkfifo(path)  # without a writer
    assert message() == f"{path} cannot be read: it is not a regular file."


def test_config_without_a_file(refused):
    assert "argument --config: expected one argument" in refused("train", "--config")


def test_help_does_not_need_the_file(run):
    assert run("train", "--config", "nowhere.toml", "--help").status == 0

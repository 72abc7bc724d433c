"""One rule maps file names to formats: for reading, for saving and for later commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import given_options
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.messages import log_to_stderr, with_flags
from keras_bert_zoo.cli.options import parse
from keras_bert_zoo.cli.tasks import BUILT, TASKS, task_command
from keras_bert_zoo.directories import replacing
from keras_bert_zoo.files import SIDE_FILE
from tests.cli.test_columns import model_directory, parsed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_rule(suffix):
    def format_of(task, name, labelled):
        return task_command(task).format_of(name + suffix, labelled=labelled)

    for task in (*TASKS, *BUILT):
        for labelled in (True, False):
            for name in ("a.csv", "a.tsv", "a.JSONL"):
                expected = name[2:].lower()
                if task == "token-classification" and labelled and expected != "jsonl":
                    expected = None
                assert format_of(task, name, labelled) == expected, (task, name)
            assert format_of(task, "a.dat", labelled) is None
    tagger = "token-classification"
    assert format_of(tagger, "a.json", labelled=True) == "json"
    assert format_of(tagger, "a.iob2", labelled=True) == "conll"
    assert format_of(tagger, "a.txt", labelled=True) is None
    assert format_of(tagger, "a.txt", labelled=False) == "text"
    assert format_of("relations", "a.txt", labelled=True) == "semeval"
    assert format_of("relations", "a.txt", labelled=False) == "text"
    assert format_of("next-sentence", "a.txt", labelled=True) == "text"
    assert format_of("question-answering", "a.json", labelled=False) == "squad"
    assert task_command("multiple-choice").format_of("-", labelled=False) == "jsonl"
    assert task_command("classification").format_of("-", labelled=False) == "text"


@pytest.mark.parametrize(
    ("task", "file", "form", "same", "other"),
    [
        ("token-classification", "x.json", "json", "y.json.gz", "y.conll"),
        ("token-classification", "x", "conll", "y", "y.json"),
        ("relations", "x.txt", "semeval", "y.txt", "y.csv"),
        ("next-sentence", "x.txt", "text", "y.txt", "y.csv"),
        ("masked-lm", "x.txt", "text", "y.txt", "y.csv"),
    ],
)
def test_the_encoding_is_used_for_files_of_the_same_format(tmp_path, task, file, form, same, other):
    args = parsed("train", "--preset", "p", "--output", "o", "--task", task, "--train", file,
                  "--encoding", "latin-1")  # fmt: skip
    saved = given_options(args, task_command(task))
    assert saved == {"encoding": "latin-1", "format": form}
    model = model_directory(tmp_path / "m", task, saved)
    for name, encoding in ((same, "latin-1"), (other, "utf-8")):
        args = parsed("evaluate", "--model", model, "--data", name)
        assert args.encoding == encoding, name
        format_ = form if name == "y" else None  # other names imply the format
        assert args.format == format_, name


def test_the_directory_is_looked_up_as_for_loading(tmp_path, monkeypatch):
    hidden = model_directory(tmp_path / "hidden", "classification", {"text": "body"})
    monkeypatch.setattr(replacing, "find_directory", lambda path: Path(hidden))
    monkeypatch.setattr("keras_bert_zoo.cli.saved_task.find_directory", lambda path: Path(hidden))
    assert parsed("evaluate", "--model", str(tmp_path / "m"), "--data", "x.csv").text == "body"


def test_no_model_no_saved_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / SIDE_FILE).write_text(json.dumps({"columns": {"text": "body"}}))
    assert command_parser("evaluate", ["--data", "x.csv"]).get_default("text") == "text"


@pytest.mark.parametrize("key", ["text-pair", "text_pair"])
def test_options_in_a_file_may_have_dashes_or_underscores(tmp_path, key):
    path = tmp_path / "options.json"
    path.write_text(json.dumps({key: "b", "choices": ["a", "c"], "epochs": 5, "json": True}))
    argv = ["--config", str(path)]
    assert options.peek(argv, "text-pair") == "b"
    assert options.peek(argv, "choices") == "a,c"
    assert options.peek(argv, "epochs") == "5"
    assert options.peek(argv, "json") is None
    # The columns of training are not combined with those of another file.
    saved = {"text": "q", "text_pair": "p", "label": "topic"}
    model = model_directory(tmp_path / "m", "embedding", saved)
    path.write_text(json.dumps({"model": model, "data": "x.csv", key: "b"}))
    args = parsed("evaluate", *argv)
    assert (args.text_pair, args.label) == ("b", None)
    path.write_text(json.dumps({"model": model, "data": "x.csv", "negatives": ["n"]}))
    assert parsed("evaluate", *argv).label is None


@pytest.mark.parametrize("text", ["1_0", "1,5", "9" * 5000, "٣_٣", ""])
@pytest.mark.parametrize("flag", ["--epochs", "--learning-rate", "--max-length", "--seed"])
def test_invalid_numbers(text, flag):
    with pytest.raises(options.ConfigError) as caught:
        parsed("train", "--preset", "p", "--train", "t", "--output", "o", flag, text)
    message = str(caught.value)
    assert message.startswith(f"argument {flag}: expected a ")
    assert message.endswith("; write a decimal point: 1.5") == (text == "1,5")
    assert len(message) < 300


def test_invalid_sizes(refused, tmp_path):
    for size in ("9" * 5000, "²", "0", "1_0"):
        args = parsed("train", "--preset", "p", "--train", "t", "--output", "o", "--task",
                      "embedding", "--matryoshka", size)  # fmt: skip
        with pytest.raises(options.ConfigError, match="expected --matryoshka to be sizes such as"):
            task_command("embedding").check_options(args)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("with `word=N` and `tag=N`", "with `--word-column N` and `--tag-column N`"),
        ("give `scheme=IO` or `scheme=IOB2`", "give `--tag-scheme IO` or `--tag-scheme IOB2`"),
        ("with `offsets=utf16`, or `lenient=True`", "with `--offsets utf16`, or `--lenient`"),
        ("with `tag_names`, with `entities=KEY`", "with `--tag-names`, with `--entities KEY`"),
    ],
)  # fmt: skip
def test_flags_of_token_classification(message, expected):
    argv = ["--task", "token-classification"]
    assert with_flags(message, command_parser("train", argv).flags()) == expected


def test_messages_of_data_name_no_flags():
    """Python shows them, too. The command line replaces options by flags."""
    for path in (ROOT / "keras_bert_zoo" / "data").glob("*.py"):
        assert "(--" not in path.read_text("utf-8"), path


def test_warnings_name_flags(capsys):
    import logging

    flags = command_parser("train", ["--task", "token-classification"]).flags()
    with log_to_stderr(lambda: flags):
        logging.getLogger("keras_bert_zoo.data").warning("say so with `tag=N`")
        logging.getLogger("keras_bert_zoo.data").warning("plain")
    assert capsys.readouterr().err == (
        "keras-bert-zoo: warning: say so with `--tag-column N`\nkeras-bert-zoo: warning: plain\n"
    )


def test_notes_are_escaped(tmp_path, capsys):
    command = task_command("token-classification")
    path = tmp_path / "a.jsonl"
    label = "P\x1b[31m\nX"
    path.write_text(json.dumps({"text": "Ada", "entities": [[0, 3, f" {label} "]]}))
    args = parse(command_parser("train", argv := [
        "--preset", "p", "--output", "o", "--train", str(path), "--task", command.name,
    ]), argv)  # fmt: skip
    examples = command.read(str(path), args)
    assert examples.labels == [label]  # without spaces at its ends
    command.check_data(examples, None)
    assert capsys.readouterr().err.endswith("entities from 'entities': 'P\\x1b[31m\\nX' 1\n")


def test_help_imports_no_numpy():
    code = (
        "import sys\n"
        "from keras_bert_zoo.cli.main import COMMANDS, command_parser\n"
        f"for task in {list(TASKS)}:\n"
        "    command_parser('train', ['--task', task]).format_help()\n"
        "    assert 'numpy' not in sys.modules, task\n"
        "for name in COMMANDS:\n"
        "    command_parser(name, []).format_help()\n"
        "    assert 'numpy' not in sys.modules, name\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)

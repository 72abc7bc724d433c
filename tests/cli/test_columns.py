"""evaluate and predict use the data options of train; the printed commands run."""

import json
import shlex

import pytest

from keras_bert_zoo.cli.columns import SAVED_OPTIONS, given_options, show_next
from keras_bert_zoo.cli.main import command_parser, main
from keras_bert_zoo.cli.options import Parser, parse
from keras_bert_zoo.cli.tasks import TASKS, task_command
from keras_bert_zoo.files import SIDE_FILE
from tests.cli.conftest import fast

# Options that each command has separately, or that are saved elsewhere.
NOT_SAVED = {"skip_misplaced", "num_beams", "length_penalty", "bleu_tokenizer"}
VALUES = {
    "text": "my text", "text_pair": "second", "label": "the label", "label_separator": "|",
    "translation": "target", "choices": "a,b", "first_choice": "1", "negatives": "n1,n2",
    "score": "alike", "entities": "spans", "offsets": "utf16", "tag_names": "O,B-PER",
    "word_column": "2", "tag_column": "-2",
    "tag_scheme": "IOB1", "join": "none", "lenient": None, "columns": "my text,the label",
    "format": None, "delimiter": ";", "encoding": "latin-1",
}  # fmt: skip


def test_a_file_with_a_header_for_a_model_trained_without_one(tmp_path, refused):
    saved = {"columns": ["id", "body", "label"], "text": "body", "format": "csv"}
    model = model_directory(tmp_path / "m", "classification", saved)
    data = tmp_path / "h.csv"
    data.write_text("text,label\na x,ja\n")
    message = refused("evaluate", "--model", model, "--data", data, "--text", "text")
    assert message.endswith("the columns of the training file; --columns '' reads a header")
    flags = ["--model", model, "--data", str(data), "--text", "text", "--columns", ""]
    args = parsed("evaluate", *flags)
    assert args.columns is None


def data_flags(command):
    parser = Parser()
    command.add_data_options(parser, labelled=True)
    return {action.dest: action for action in parser.flags().values() if action.dest != "help"}


def model_directory(folder, task, columns):
    folder.mkdir()
    config = {"problem_type": "multi_label_classification"} if task == "multi-label" else {}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    task = "classification" if task == "multi-label" else task
    (folder / SIDE_FILE).write_text(json.dumps({"task": task, "columns": columns}))
    return str(folder)


def parsed(name, *argv):
    return parse(command_parser(name, argv), argv)


@pytest.mark.parametrize("task", TASKS)
def test_evaluate_and_predict_use_the_options_of_train(task, tmp_path, capsys):
    """Every option of every task, through the commands that train prints."""
    command = task_command(task)
    flags = data_flags(command)
    assert set(flags) - NOT_SAVED <= set(SAVED_OPTIONS), "a new option: is it saved?"
    words, expected = [], {}
    for name, action in flags.items():
        if name in NOT_SAVED:
            continue
        choices = [choice for choice in action.choices or () if choice in ("csv", "jsonl")]
        value = choices[0] if name == "format" else VALUES[name]
        words += [f"--{name.replace('_', '-')}"] + ([] if value is None else [value])
        expected[name] = action.type(value) if action.type and value else (value or True)
    args = parsed("train", "--preset", "p", "--train", "x.csv", "--output", "o", "--task", task,
                  *words)  # fmt: skip
    saved = given_options(args, command)
    assert saved == expected
    saved = json.loads(json.dumps(saved))
    model = model_directory(tmp_path / "my 'model'", task, saved)
    show_next(model, predict=command.predict_hint(args))
    lines = capsys.readouterr().out.split("\n")[1:-1]
    assert len(lines) == 3
    for line in lines:
        program, name, *argv = shlex.split(line)
        assert (program, argv[1]) == ("keras-bert-zoo", model)
        argv = [f"x.{saved.get('format', 'json')}" if word == "FILE" else word for word in argv]
        args = parsed(name, *argv)
        used = {key: getattr(args, key) for key in expected if hasattr(args, key)}
        if name == "export":
            continue
        defaults = {key: expected[key] for key in used}
        # The name implies the format. Embedders predict single texts.
        defaults["format"] = None
        if name == "predict" and task == "embedding":
            defaults["text_pair"] = None
        assert {key: value for key, value in used.items() if key in defaults} == {
            key: value for key, value in defaults.items() if key in used
        }
        assert name == "predict" or set(used) == set(expected)


def test_flags_override_and_options_of_another_format_are_ignored(tmp_path):
    saved = {"text": "body", "label": "kind", "columns": ["body", "kind"], "format": "csv",
             "delimiter": ";", "encoding": "latin-1"}  # fmt: skip
    model = model_directory(tmp_path / "m", "classification", saved)

    def used(name, *argv):
        args = parsed(name, "--model", model, *argv)
        return {key: getattr(args, key) for key in saved if hasattr(args, key)}

    assert used("evaluate", "--data", "x.csv") == saved | {"format": None}
    assert used("evaluate", "--data", "x.csv.gz") == saved | {"format": None}
    assert used("evaluate", "--data", "x.dat") == saved
    plain = {"columns": None, "delimiter": None, "encoding": "utf-8", "format": None}
    assert used("evaluate", "--data", "x.jsonl") == saved | plain
    assert used("predict") == {key: (saved | plain)[key] for key in saved if key != "label"}
    given = used("evaluate", "--data", "x.csv", "--text", "text", "--encoding", "utf-8")
    assert (given["text"], given["encoding"], given["label"]) == ("text", "utf-8", "kind")
    given = used("evaluate", "--data", "x.csv", "--format", "tsv")
    assert (given["format"], given["delimiter"]) == ("tsv", None)
    config = tmp_path / "evaluate.json"
    config.write_text(json.dumps({"model": model, "data": "x.csv", "text": "from a file"}))
    args = parsed("evaluate", "--config", str(config))
    assert (args.text, args.label) == ("from a file", "kind")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": 5.5}, None),
        ({"text": ["a"]}, "columns: text: expected a string or a number, received ['a']"),
        ({"columns": [1], "format": "csv"}, "'columns' must be an object of names and"),
        (
            {"encoding": {}, "format": "csv"},
            "'columns' must be an object of names and",
        ),
        ({"text": None, "nonsense": 3, "model": "x", "data": "y"}, None),
        (["text"], None),
        (7, None),
    ],
)
def test_damaged_columns(tmp_path, columns, message, refused):
    model = model_directory(tmp_path / "m", "classification", columns)
    (tmp_path / "x.csv").write_text("text,label\n")
    if message is None:
        args = parsed("evaluate", "--model", model, "--data", "x.csv")
        assert (args.model, args.data) == (model, "x.csv")
    else:
        assert message in refused("evaluate", "--model", model, "--data", "x.csv")


def test_the_commands_that_train_prints_run(run, refused, preset, data, tmp_path, monkeypatch):
    """A table without a header, in another encoding; paths with spaces."""
    monkeypatch.chdir(tmp_path)
    rows = (data / "train.csv").read_text().split("\n")[1:]
    table = tmp_path / "my table.csv"
    table.write_bytes("\n".join(f"{i};{row}".replace(",", ";") for i, row in enumerate(rows) if row)
                      .replace("sea", "meer ü").encode("latin-1"))  # fmt: skip
    finished = run(
        "train", *fast(preset, "--epochs", "1"), "--train", table, "--output", "my model",
        "--columns", "id,body,colour", "--text", "body", "--label", "colour", "--delimiter", ";",
        "--encoding", "latin-1",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    lines = finished.out.split("saved in my model; next:\n")[1].split("\n")[:2]
    results = []
    for line in lines:
        _, *argv = shlex.split(line)
        argv = [str(table) if word == "FILE" else word for word in argv]
        finished = run(*argv)
        assert (finished.status, finished.err) == (0, ""), finished
        results.append(finished)
    assert "accuracy" in results[0].out
    assert {row["text"] for row in results[1].rows} >= {"a meer ü is here"}
    # A file with other columns: both names are in the message.
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a", "label": "red"}\n')
    assert refused("predict", "--model", "my model", "--input", other) == (
        f"{other}:1: expected a column 'body' (--text, as in training), found 'text', 'label'"
    )
    message = refused("evaluate", "--model", "my model", "--data", other, "--text", "text")
    assert "expected a column 'colour' (--label, as in training), found 'text', 'label'" in message
    message = refused("evaluate", "--model", "my model", "--data", other, "--text", "texts")
    assert "expected a column 'texts' (--text), found 'text', 'label'" in message
    # The saved options are unchanged after loading and saving.
    from keras_bert_zoo.tasks.registry import load_task

    task = load_task("my model")
    task.save("again")
    sides = [
        json.loads((tmp_path / name / SIDE_FILE).read_text()) for name in ("my model", "again")
    ]
    assert sides[0]["columns"] == sides[1]["columns"] == {
        "columns": ["id", "body", "colour"], "text": "body", "label": "colour", "delimiter": ";",
        "encoding": "latin-1", "format": "csv",
    }  # fmt: skip


def test_optional_columns_of_training_are_ignored_if_flags_name_others(tmp_path):
    saved = {"text": "question", "text_pair": "answer", "label": "topic", "negatives": ["no"]}
    model = model_directory(tmp_path / "m", "embedding", saved)

    def used(*argv):
        args = parsed("evaluate", "--model", model, "--data", "x.jsonl", *argv)
        return [args.text, args.text_pair, args.label, args.negatives, args.score]

    assert used() == ["question", "answer", "topic", ["no"], None]
    assert used("--score", "alike") == ["question", None, None, [], "alike"]
    assert used("--text", "a", "--text-pair", "b") == ["a", "b", None, [], None]
    # A classifier of pairs still needs pairs.
    model = model_directory(tmp_path / "c", "classification", {"text": "a", "text_pair": "b"})
    args = parsed("evaluate", "--model", model, "--data", "x.csv", "--label", "same")
    assert (args.text, args.text_pair, args.label) == ("a", "b", "same")


def test_a_model_trained_with_defaults_saves_no_columns(model):
    assert "columns" not in json.loads((model / SIDE_FILE).read_text())


def test_a_file_of_unknown_format_is_read_as_in_training():
    """Both evaluate and predict then expect CoNLL columns."""
    command = task_command("token-classification")
    arguments = ["--preset", "p", "--output", "o", "--task", command.name, "--train"]
    assert given_options(parsed("train", *arguments, "x.words"), command) == {"format": "conll"}
    assert given_options(parsed("train", *arguments, "x.jsonl"), command) == {}


def test_training_on_documents_prints_the_columns_of_predict(tmp_path, capsys):
    command = task_command("next-sentence")
    args = parsed("train", "--preset", "p", "--train", "x.txt", "--output", "o", "--task",
                  command.name)  # fmt: skip
    show_next("o", predict=command.predict_hint(args))
    assert "predict --model o --input FILE --text-pair COLUMN\n" in capsys.readouterr().out


def test_odd_paths_are_quoted(capsys):
    for path in ("-o", "a b", "it's", "$HOME", "a;b", "*"):
        show_next(path)
        for line in capsys.readouterr().out.split("\n")[1:-1]:
            argv = shlex.split(line)
            assert argv[3] in (path, f"./{path}")
            assert len(argv) == 6


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--delimiter", ";;"), "expected `--delimiter` to be one character, received ';;'"),
        (("--encoding", "utf-99"), "expected `--encoding` to be the name of a text encoding"),
        (
            ("--task", "multi-label", "--label-separator", ""),
            "expected `--label-separator` to be at least one character, received none",
        ),
        (
            ("--format", "jsonl", "--delimiter", ","),
            "expected CSV or TSV for `--delimiter`, received",
        ),
        (
            ("--label", "x"),
            "if this is no header but a row, name the columns with `--columns`",
        ),
        (("--dev-fraction", "0.001"), "give more examples or another `--dev-fraction`"),
    ],
)
def test_messages_name_flags(refused, preset, data, tmp_path, argv, message):
    assert message in refused("train", "--preset", preset, "--train", data / "train.csv",
                              "--output", tmp_path / "o", *argv)  # fmt: skip


def test_messages_name_flags_for_unknown_names_and_encodings(refused, preset, tmp_path):
    needed = ["train", "--preset", preset, "--output", tmp_path / "o", "--train"]
    path = tmp_path / "a.dat"
    path.write_text("text,label\n")
    assert refused(*needed, path).endswith("rename the file or give its `--format`")
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nü,x\n".encode("latin-1"))
    assert refused(*needed, path).endswith("re-save the file as UTF-8 or give its `--encoding`")
    path.write_bytes("text,label\nü,x\n".encode("utf-16"))
    assert refused(*needed, path).endswith("looks like UTF-16: give `--encoding utf-16`")


def test_python_messages_name_python_options(tmp_path):
    from keras_bert_zoo.data.tables import read_table
    from keras_bert_zoo.errors import ConfigError

    with pytest.raises(ConfigError, match="give its `format`$"):
        read_table(tmp_path / "a.dat")


def test_a_missing_model_is_an_error(refused, tmp_path):
    assert "there is no such directory" in refused("predict", "--model", tmp_path / "none")
    assert main(["predict", "--help"]) == 0

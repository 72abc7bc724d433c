"""A tiny model, tiny files, and fixtures that run a command line."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from keras_bert_zoo.cli.main import main
from tests.helpers import eagerly

COLOURS = {"red": "rose fire", "blue": "sky sea", "green": "leaf grass"}
WORDS = [*" ".join(COLOURS.values()).split(), "##s", "a", "the", "is", "here", "?"]


@dataclass(frozen=True)
class Finished:
    """The result of a command line."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def rows(self):
        return [json.loads(line) for line in self.out.split("\n") if line]


@pytest.fixture
def run(capfd) -> Callable[..., Finished]:
    """Runs a command line in this process."""

    def run(*argv) -> Finished:
        capfd.readouterr()
        status = main([str(argument) for argument in argv])
        captured = capfd.readouterr()
        return Finished(status, captured.out, captured.err)

    return run


@pytest.fixture
def refused(run) -> Callable[..., str]:
    """Runs a command line that must fail with a status and one line; returns the message."""

    def refused(*argv, status=2) -> str:
        finished = run(*argv)
        assert finished.status == status, finished
        assert finished.err.startswith("keras-bert-zoo: error: "), finished.err
        assert finished.err.count("\n") == 1, finished.err
        assert finished.err.endswith("\n")
        return finished.err.removeprefix("keras-bert-zoo: error: ").strip()

    return refused


def texts(count: int) -> list[tuple[str, str]]:
    """Texts that a tiny model learns to classify, with their labels."""
    colours = list(COLOURS)
    rows = []
    for index in range(count):
        colour = colours[index % len(colours)]
        noun = COLOURS[colour].split()[index // 3 % 2]
        rows.append((f"{'the' if index % 2 else 'a'} {noun} is here", colour))
    return rows


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """train.csv, dev.csv, numbers.csv, several.jsonl, pairs.tsv."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 48), ("dev", 12)):
        lines = ["text,label", *(",".join(row) for row in texts(count))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    colours = list(COLOURS)
    lines = ["text,label", *(f"{text},{colours.index(label)}.5" for text, label in texts(24))]
    (folder / "numbers.csv").write_text("\n".join(lines) + "\n")
    with open(folder / "several.jsonl", "w") as file:
        for index, (text, label) in enumerate(texts(24)):
            labels = [label, "odd"] if index % 2 else [label]
            file.write(json.dumps({"text": text, "label": labels}) + "\n")
    lines = ["first\tsecond\tsame"]
    lines += [
        f"{a}\t{b}\t{x == y}" for (a, x), (b, y) in zip(texts(24), texts(24)[::-1], strict=True)
    ]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def preset(tmp_path_factory) -> Path:
    """A Hugging Face directory of a tiny random encoder with a head for `COLOURS`."""
    import keras

    from keras_bert_zoo.config import EncoderConfig
    from keras_bert_zoo.encoders.registry import build_encoder
    from keras_bert_zoo.tasks.text_classifier import TextClassifier
    from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    keras.utils.set_random_seed(1)
    config = EncoderConfig(
        vocabulary_size=len(vocabulary),
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
        max_sequence_length=64,
        initializer_range=0.2,
    )
    task = TextClassifier(
        build_encoder(config, pooler=True), WordPieceTokenizer(vocabulary), sorted(COLOURS)
    )
    folder = tmp_path_factory.mktemp("preset") / "tiny"
    task.save(folder)
    return folder


def fast(preset, *more) -> list:
    """Options of a training that takes seconds."""
    return ["--preset", preset, "--learning-rate", "0.02", "--batch-size", "24", "--epochs", "2",
            "--dtype", "float32", *more]  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A training for train.csv."""

    output: Path
    logs: Path
    finished: Finished


@pytest.fixture(scope="session")
def training(tmp_path_factory, preset, data) -> Training:
    """The training of `model`."""
    folder = tmp_path_factory.mktemp("model")
    output, logs = folder / "new" / "colours", folder / "logs"
    options = fast(preset, "--epochs", "8", "--learning-rate", "0.05")
    arguments = ["train", *options, "--train", data / "train.csv"]
    arguments += ["--dev", data / "dev.csv", "--output", output, "--tensorboard", logs, "--plot"]
    out, err = io.StringIO(), io.StringIO()
    with eagerly(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Training(output, logs, Finished(status, out.getvalue(), err.getvalue()))


@pytest.fixture(scope="session")
def model(training) -> Path:
    """The directory that `train` wrote for train.csv."""
    assert training.finished.status == 0, training.finished.err
    return training.output


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder, to show that none is lost."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }

"""The nine tasks of GLUE, with the files of its zip archives.

Source: Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding" (arXiv 1804.07461). The defaults are those of BERT (arXiv 1810.04805, section 4.1: a
batch of 32, 3 epochs, rates of 2e-5 to 5e-5) in the form that the README of transformers'
`run_glue.py` lists results for: the rate 2e-5, and 5 epochs for the small MRPC and WNLI.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.evaluation.suite import (
    Settings,
    Suite,
    SuiteData,
    SuiteTask,
    TestSet,
    attribute,
    matthews_correlation,
    positive_f1,
)

__all__ = ["GLUE"]

_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_LISTED_LINES = 20
_SCORES = (0.0, 5.0)  # the range of STS-B

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Files:
    """The files of a task and their columns. No file has quoted fields.

    Args:
        folder: str.
        text: str. The column of the text.
        label: str. The column of the label.
        labels: the possible labels; empty for scores.
        text_pair: str or None. The column of the second text.
        dev: name -> file of labelled examples to measure on.
        tests: file of predictions -> file of unlabelled examples.
        index: str. The column with the numbers of the unlabelled examples.
        columns: the names of the columns of labelled files without a header.
        skips_lines: bool. Whether lines with a wrong number of columns are skipped.
    """

    folder: str
    text: str
    label: str
    labels: tuple[str, ...] = ()
    text_pair: str | None = None
    dev: tuple[tuple[str, str], ...] = (("", "dev.tsv"),)
    tests: tuple[tuple[str, str], ...] = ()
    index: str = "index"
    columns: tuple[str, ...] | None = None
    skips_lines: bool = False

    def names(self) -> tuple[str, ...]:
        """The labelled files, relative to the directory of the suite."""
        return tuple(f"{self.folder}/{name}" for name in ("train.tsv", *dict(self.dev).values()))

    def read(self, directory: Path) -> SuiteData:
        """Reads the training data and the labelled examples to measure on."""
        folder = directory / self.folder
        dev = {name: self.labelled(folder / file) for name, file in self.dev}
        return SuiteData(self.labelled(folder / "train.tsv"), dev, self.labels)

    def labelled(self, path: Path) -> Examples:
        """Reads a file with labels, and checks them."""
        source = _without_broken_lines(path) if self.skips_lines else path
        examples = _read(
            source,
            text=self.text,
            text_pair=self.text_pair,
            label=self.label,
            label_kind="single" if self.labels else "float",
            columns=self.columns,
        )
        self._check_labels(examples)
        return examples

    def read_tests(self, directory: Path) -> list[TestSet]:
        """Reads the unlabelled files that exist."""
        return [
            self.unlabelled(directory / self.folder / file, name)
            for name, file in self.tests
            if (directory / self.folder / file).is_file()
        ]

    def unlabelled(self, path: Path, name: str) -> TestSet:
        """Reads a file without labels; its numbers are in the column `index`."""
        columns = {"text": self.text, "text_pair": self.text_pair}
        indices = _read(path, text=self.index, label=None).texts
        return TestSet(name, indices, _read(path, label=None, **columns))

    def _check_labels(self, examples: Examples) -> None:
        for index, label in enumerate(examples.labels or ()):
            if isinstance(label, float):
                if not _SCORES[0] <= label <= _SCORES[1]:
                    raise DataError(
                        f"{examples.where(index)}: expected a score from 0 to 5, received {label:g}"
                    )
            elif label not in self.labels:
                raise DataError(
                    f"{examples.where(index)}: expected one of the labels "
                    f"{', '.join(self.labels)} in the column {self.label!r}, received {label!r}"
                )


def _read(source: Any, **columns: Any) -> Examples:
    return read_table(source, format="tsv", delimiter="\t", quoting=False, **columns)


class _NamedBytes(io.BytesIO):
    """Bytes with the name of their file, for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _without_broken_lines(path: Path) -> BinaryIO:
    """Reads a file and blanks the lines whose number of columns differs from the header's.

    The published QQP has a few questions with line ends or without a partner. Blank lines keep the
    numbers of the others.

    Raises:
        DataError: more than ten lines and one percent are such lines.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from None
    width = lines[0].count(b"\t")
    broken = [
        number
        for number, line in enumerate(lines, start=1)
        if line.strip() and line.count(b"\t") != width
    ]
    if broken:
        shown = ", ".join(map(str, broken[:_LISTED_LINES]))
        more = ", ..." if len(broken) > _LISTED_LINES else ""
        message = f"lines without the {width + 1} columns of the header: {shown}{more}"
        if len(broken) > max(10, len(lines) // 100):
            raise DataError(
                f"{path}: expected at most 1 % of broken lines, received {len(broken):,} {message}"
            )
        _logger.warning("%s: skipped %d %s", path, len(broken), message)
        for number in broken:
            lines[number - 1] = b""
    return _NamedBytes(b"\n".join(lines), str(path))


# === MRPC ===


def _read_mrpc(directory: Path) -> SuiteData:
    """Reads GLUE's split, or makes it from the files of the corpus.

    The corpus has one file to train and one to test. GLUE's dev set is a part of the former; its
    numbers are in dev_ids.tsv. Without that file, the corpus' test set is measured.
    """
    folder = directory / _MRPC.folder
    if (folder / "train.tsv").is_file() and (folder / "dev.tsv").is_file():
        return _MRPC.read(directory)
    path = folder / "msr_paraphrase_train.txt"
    train = _MRPC.labelled(path)
    ids_file = next((folder / n for n in _DEV_IDS if (folder / n).is_file()), None)
    if ids_file is None:
        test = folder / "msr_paraphrase_test.txt"
        _logger.warning(
            "%s: measures on the corpus' test set, because dev_ids.tsv, which selects GLUE's dev "
            "set, is missing",
            test,
        )
        return SuiteData(train, {"": _MRPC.labelled(test)}, _MRPC.labels)
    chosen = _read(ids_file, text="first", text_pair="second", label=None,
                   columns=("first", "second"))  # fmt: skip
    dev_ids = set(zip(*chosen.columns, strict=True))
    ids = _read(path, text="#1 ID", text_pair="#2 ID", label=None)
    held_out = [pair in dev_ids for pair in zip(*ids.columns, strict=True)]
    missing = len(dev_ids) - sum(held_out)
    if missing > 0:
        raise DataError(
            f"{ids_file}: expected pairs of {path.name}, received {missing} pairs that are not in "
            "it; use the two files of one source"
        )
    dev = [index for index, held in enumerate(held_out) if held]
    rest = [index for index, held in enumerate(held_out) if not held]
    return SuiteData(train.subset(rest), {"": train.subset(dev)}, _MRPC.labels)


def _read_mrpc_tests(directory: Path) -> list[TestSet]:
    tests = _MRPC.read_tests(directory)
    path = directory / _MRPC.folder / "msr_paraphrase_test.txt"
    if tests or not path.is_file():
        return tests
    examples = _read(path, text=_MRPC.text, text_pair=_MRPC.text_pair, label=None)
    return [TestSet("MRPC.tsv", [str(index) for index in range(len(examples))], examples)]


_DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")
_MRPC = _Files(
    "MRPC", "#1 String", "Quality", _BINARY, "#2 String", tests=(("MRPC.tsv", "test.tsv"),)
)


# === MNLI ===


def _read_mnli_tests(directory: Path) -> list[TestSet]:
    """The two test sets, and the diagnostic set, which a model of MNLI predicts."""
    tests = _MNLI.read_tests(directory)
    for name in ("diagnostic/diagnostic.tsv", "AX/AX.tsv"):
        if (directory / name).is_file():
            return [*tests, _MNLI.unlabelled(directory / name, "AX.tsv")]
    return tests


_MNLI = _Files(
    "MNLI",
    "sentence1",
    "gold_label",
    ("contradiction", "entailment", "neutral"),
    "sentence2",
    dev=(("matched", "dev_matched.tsv"), ("mismatched", "dev_mismatched.tsv")),
    tests=(("MNLI-m.tsv", "test_matched.tsv"), ("MNLI-mm.tsv", "test_mismatched.tsv")),
)

_ACCURACY = {"accuracy": attribute("accuracy")}
_ACCURACY_AND_F1 = _ACCURACY | {"F1": positive_f1}


def _task(
    files: _Files,
    measures: dict[str, Any],
    *,
    kind: str = "classification",
    names: Sequence[str] = (),
    **options: Any,
) -> SuiteTask:
    options = {"read": files.read, "read_tests": files.read_tests} | options
    return SuiteTask(
        files.folder, kind, tuple(names) or files.names(), measures=measures, **options
    )


def _files(folder: str, *columns: Any, **options: Any) -> _Files:
    tests = ((f"{folder}.tsv", "test.tsv"),)
    return _Files(folder, *columns, **options | {"tests": tests})


_short = functools.partial(Settings, epochs=5)

GLUE = Suite(
    "glue",
    (
        # Labelled files have no header; the unlabelled one has.
        _task(
            _files(
                "CoLA",
                "sentence",
                "label",
                _BINARY,
                columns=("source", "label", "mark", "sentence"),
            ),
            {"Matthews": matthews_correlation},
        ),
        _task(_files("SST-2", "sentence", "label", _BINARY), _ACCURACY),
        _task(
            _MRPC,
            _ACCURACY_AND_F1,
            names=(
                "MRPC/train.tsv or MRPC/msr_paraphrase_train.txt",
                " or ".join(
                    f"MRPC/{name}" for name in ("dev.tsv", *_DEV_IDS, "msr_paraphrase_test.txt")
                ),
            ),
            read=_read_mrpc,
            read_tests=_read_mrpc_tests,
            settings=_short(),
        ),
        _task(
            _files("STS-B", "sentence1", "score", (), "sentence2"),
            {"Pearson": attribute("pearson"), "Spearman": attribute("spearman")},
            kind="regression",
        ),
        _task(
            _files(
                "QQP",
                "question1",
                "is_duplicate",
                _BINARY,
                "question2",
                index="id",
                skips_lines=True,
            ),
            _ACCURACY_AND_F1,
        ),
        _task(_MNLI, _ACCURACY, read_tests=_read_mnli_tests),
        _task(_files("QNLI", "question", "label", _ENTAILMENT, "sentence"), _ACCURACY),
        _task(_files("RTE", "sentence1", "label", _ENTAILMENT, "sentence2"), _ACCURACY),
        _task(
            _files("WNLI", "sentence1", "label", _BINARY, "sentence2"),
            _ACCURACY,
            settings=_short(),
        ),
    ),
)  # fmt: skip
"""GLUE's tasks, in the order of the paper's table of scores."""

"""Classification, multi-label classification and regression of texts and pairs of texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, number
from keras_bert_zoo.errors import ConfigError

# Data readers are imported in functions: they import NumPy, which makes --help slow.
if TYPE_CHECKING:
    from keras_bert_zoo.cli.error_plots import Predictions
    from keras_bert_zoo.data.examples import Examples, LabelKind
    from keras_bert_zoo.data.labels import LabelMap

_LABEL_KINDS: dict[str, LabelKind] = {
    "classification": "single",
    "multi-label": "multi",
    "regression": "float",
}


def make_command(name: str) -> TextCommand:
    """Makes the command of one of this module's tasks."""
    return TextCommand(name)


class TextCommand(TaskCommand):
    """A table with a text or a pair of texts, and a label, in each row."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._labels: LabelMap | None = None

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the table."""
        options.add_table_options(parser, label=labelled, text_format=not labelled)
        if not labelled:
            parser.add_argument(
                "--all-scores", action="store_true", help="add `scores`: all probabilities"
            )

    def add_train_options(self, group: Any) -> None:
        """Adds class weights and thresholds."""
        group.add_argument(
            "--class-weight",
            choices=("balanced", "none"),
            default="none",
            help="balanced: every label has the same total weight",
        )
        group.add_argument(
            "--tune-thresholds",
            action=argparse.BooleanOptionalAction,
            help="multi-label: tune a threshold per label for the best F1 on the validation data; "
            "default: 0.5 for all labels",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that do not apply to the task."""
        if args.class_weight != "none" and self.name != "classification":
            raise ConfigError(f"--class-weight does not apply to --task {self.name}")
        if args.tune_thresholds and self.name != "multi-label":
            raise ConfigError(f"--tune-thresholds does not apply to --task {self.name}")
        if args.tune_thresholds and not (args.dev or args.dev_fraction):
            raise ConfigError("--tune-thresholds needs validation data: --dev or --dev-fraction")

    def read(self, path: str, args: argparse.Namespace) -> Examples:
        """Reads a table with labels."""
        from keras_bert_zoo.data.tables import read_table

        return read_table(
            path,
            label=args.label,
            label_kind=_LABEL_KINDS[self.name],
            label_separator=args.label_separator,
            **options.table_options(args),
        )

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads a table without labels, or lines of text."""
        table = options.table_options(args)
        return self.read_table_in_parts(source, args, table)

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Takes the labels of the preset with --keep-head, if it has the same task."""
        from keras_bert_zoo.config import is_regression
        from keras_bert_zoo.data.labels import LabelMap

        if not args.keep_head:
            return
        multi_label = config.get("problem_type") == "multi_label_classification"
        saved = "multi-label" if multi_label else "classification"
        saved = "regression" if is_regression(config) else saved
        if saved != self.name:
            raise ConfigError(
                f"--keep-head needs a preset for --task {self.name}, but {args.preset} was saved "
                f"for --task {saved}"
            )
        if "id2label" in config:
            self._labels = LabelMap.from_id2label(config["id2label"])

    def check_data(self, train: Examples, dev: Examples | None) -> None:
        """Learns the labels; raises DataError for unknown labels."""
        from keras_bert_zoo.data.labels import LabelMap

        if self.name == "regression":
            return
        if self._labels is not None:
            self._labels.to_ids(train)
        else:
            self._labels = LabelMap.learn(train)
        if dev is not None:
            self._labels.to_ids(dev)

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds a classifier or a regressor."""
        from keras_bert_zoo.tasks.text_classifier import TextClassifier
        from keras_bert_zoo.tasks.text_regressor import TextRegressor

        if self.name == "regression":
            return TextRegressor.from_preset(args.preset, new_head=not args.keep_head, **common)
        if args.keep_head or self._labels is None:
            return TextClassifier.from_preset(args.preset, **common)
        return TextClassifier.from_preset(
            args.preset,
            labels=self._labels.names,
            multi_label=self.name == "multi-label",
            **common,
        )

    def fit_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Returns the class weights."""
        return {} if args.class_weight == "none" else {"class_weight": args.class_weight}

    def tune(self, task: Any, dev: Examples | None, args: argparse.Namespace) -> None:
        """Tunes thresholds with --tune-thresholds."""
        if args.tune_thresholds and dev is not None:
            task.tune_thresholds(dev)

    def add_export_options(self, group: Any) -> None:
        """Adds the option for pairs of texts."""
        group.add_argument(
            "--pairs",
            action=argparse.BooleanOptionalAction,
            help="take pairs of texts, `text` and `text_pair`, for models of other packages (NLI, "
            "cross-encoders); default: as in training, single texts if that is unknown",
        )

    def export_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Returns whether the export takes pairs of texts."""
        return {"pair": args.pairs}

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Compares --text-pair with the training data, if that is known."""
        if task.pair and args.text_pair is None:
            raise ConfigError(
                f"{args.model} was trained on pairs of texts; pass the column of the second text "
                "with --text-pair"
            )
        if task.pair is False and args.text_pair is not None:
            raise ConfigError(f"{args.model} was trained on single texts; leave out --text-pair")

    def answer_rows(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts texts."""
        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, text in enumerate(examples.texts):
            row: dict[str, Any] = {"text": text}
            if examples.text_pairs is not None:
                row["text_pair"] = examples.text_pairs[index]
            score = answers["score"][index]
            if "label" not in answers:
                row["score"] = number(score)
            elif answers["label"].ndim == 1:
                row |= {"label": answers["label"][index], "score": number(score)}
            else:
                # Predicted labels come first, empty strings fill the row.
                labels = [label for label in answers["label"][index] if label]
                row |= {"label": labels, "score": [number(v) for v in score[: len(labels)]]}
            if getattr(args, "all_scores", False) and "scores" in answers:
                scores = map(number, answers["scores"][index])
                row["scores"] = dict(zip(task.labels, scores, strict=True))
            rows.append(row)
        return rows

    def errors(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists misclassified examples, the highest score first; all rows of a regression."""
        wrong = []
        for index, answer in enumerate(self.answer_rows(task, examples, args)):
            true: Any = _as_named((examples.labels or [])[index], task)
            score = answer.pop("score")
            if isinstance(true, float):
                badness = abs(score - true)
                prediction = {"predicted": score, "error": badness}
            else:
                label = answer.pop("label")
                if isinstance(label, list):
                    if set(label) == set(true):
                        continue
                    # By the number of wrong labels, then by the highest score of a wrong one.
                    scored = zip(label, score, strict=True)
                    highest = max((s for name, s in scored if name not in true), default=0.0)
                    badness = len(set(label) ^ set(true)) + highest
                else:
                    if label == true:
                        continue
                    badness = score
                prediction = {"predicted": label, "score": score}
            row = answer | {"label": true, **prediction, "row": examples.rows[index]}
            wrong.append((badness, row))
        wrong.sort(key=lambda pair: -pair[0])
        return [row for _, row in wrong]

    def predictions(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> Predictions | None:
        """Predicts the probabilities of all labels, or the values of a regression."""
        import numpy as np

        from keras_bert_zoo.cli.error_plots import Predictions

        answers = task.predict(examples, batch_size=args.batch_size)
        true = [_as_named(label, task) for label in examples.labels or []]
        if "label" not in answers:
            return Predictions([], np.asarray(true), np.asarray(answers["score"]))
        label_lists = [label if isinstance(label, list) else [label] for label in true]
        return Predictions(
            task.labels,
            np.array([[name in labels for name in task.labels] for labels in label_lists]),
            np.asarray(answers["scores"]),
            multi_label=answers["label"].ndim > 1,
        )


def _as_named(label: Any, task: Any) -> Any:
    """The model's names of one or several labels; a file may have "true" for "True"."""
    if isinstance(label, list):
        return [_as_named(part, task) for part in label]
    return task.labels[task.label_map.id_of(label)] if isinstance(label, str) else label

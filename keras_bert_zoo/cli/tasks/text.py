"""Classification, with one label or several, and regression, of texts and pairs of texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, number
from keras_bert_zoo.errors import ConfigError

# Readers of data are imported where they are used: they import NumPy, which slows --help down.
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
    """A task on a table with a text, or two, and a label in each row."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._labels: LabelMap | None = None

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the table."""
        options.add_table_options(parser, label=labelled, text_format=not labelled)
        if not labelled:
            parser.add_argument(
                "--all-scores", action="store_true", help="add `scores`: every label's probability"
            )

    def add_train_options(self, group: Any) -> None:
        """Adds the weights of labels."""
        group.add_argument(
            "--class-weight",
            choices=("balanced", "none"),
            default="none",
            help="balanced: every label has the same total weight",
        )
        group.add_argument(
            "--tune-thresholds",
            action=argparse.BooleanOptionalAction,
            help="multi-label: tell what applies by a threshold a label, of the best F1 on the "
            "held-out data, instead of by 0.5",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Refuses weights of labels where there is not one label a text."""
        if args.class_weight != "none" and self.name != "classification":
            raise ConfigError(f"--class-weight does not apply to --task {self.name}")
        if args.tune_thresholds and self.name != "multi-label":
            raise ConfigError(f"--tune-thresholds does not apply to --task {self.name}")
        if args.tune_thresholds and not (args.dev or args.dev_fraction):
            raise ConfigError("--tune-thresholds needs held-out data: give --dev or --dev-fraction")

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
        """Takes the labels over with --keep-head, if the preset is of the same task."""
        from keras_bert_zoo.config import is_regression
        from keras_bert_zoo.data.labels import LabelMap

        if not args.keep_head:
            return
        multi_label = config.get("problem_type") == "multi_label_classification"
        saved = "multi-label" if multi_label else "classification"
        saved = "regression" if is_regression(config) else saved
        if saved != self.name:
            raise ConfigError(
                f"--keep-head and --task {self.name}, but {args.preset} was saved for "
                f"--task {saved}"
            )
        if "id2label" in config:
            self._labels = LabelMap.from_id2label(config["id2label"])

    def check_data(self, train: Examples, dev: Examples | None) -> None:
        """Learns the labels; names those of the data that are not among them."""
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
        """Passes the weights of labels on."""
        return {} if args.class_weight == "none" else {"class_weight": args.class_weight}

    def tune(self, task: Any, dev: Examples | None, args: argparse.Namespace) -> None:
        """Tunes thresholds, if that was asked for."""
        if args.tune_thresholds and dev is not None:
            task.tune_thresholds(dev)

    def add_export_options(self, group: Any) -> None:
        """Adds whether the export takes pairs."""
        group.add_argument(
            "--pairs",
            action=argparse.BooleanOptionalAction,
            help="take pairs of texts, `text` and `text_pair`: for models from elsewhere (NLI, "
            "cross-encoders); default: as the model was trained, single texts if that is not known",
        )

    def export_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Passes on whether the export takes pairs."""
        return {"pair": args.pairs}

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Compares --text-pair with what the model was trained on, where that is known."""
        if task.pair and args.text_pair is None:
            raise ConfigError(
                f"{args.model} was trained on pairs of texts: name the second text's column with "
                "--text-pair"
            )
        if task.pair is False and args.text_pair is not None:
            raise ConfigError(f"{args.model} was trained on single texts: leave --text-pair out")

    def answer_rows(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Answers texts."""
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
                # Those that apply come first; the rest of the row is empty strings.
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
        """Lists wrong answers, the surest first; all rows of a regression."""
        wrong = []
        for index, answer in enumerate(self.answer_rows(task, examples, args)):
            true: Any = _as_named((examples.labels or [])[index], task)
            score = answer.pop("score")
            if isinstance(true, float):
                badness = abs(score - true)
                found = {"predicted": score, "error": badness}
            else:
                label = answer.pop("label")
                if isinstance(label, list):
                    if set(label) == set(true):
                        continue
                    # How many labels are wrong, and then how sure the model was of one it named.
                    named = zip(label, score, strict=True)
                    sureness = max((s for name, s in named if name not in true), default=0.0)
                    badness = len(set(label) ^ set(true)) + sureness
                else:
                    if label == true:
                        continue
                    badness = score
                found = {"predicted": label, "score": score}
            row = answer | {"label": true, **found, "row": examples.rows[index]}
            wrong.append((badness, row))
        wrong.sort(key=lambda pair: -pair[0])
        return [row for _, row in wrong]

    def predictions(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> Predictions | None:
        """Predicts every label's probability, or the values of a regression."""
        import numpy as np

        from keras_bert_zoo.cli.error_plots import Predictions

        answers = task.predict(examples, batch_size=args.batch_size)
        true = [_as_named(label, task) for label in examples.labels or []]
        if "label" not in answers:
            return Predictions([], np.asarray(true), np.asarray(answers["score"]))
        several = [label if isinstance(label, list) else [label] for label in true]
        return Predictions(
            task.labels,
            np.array([[name in labels for name in task.labels] for labels in several]),
            np.asarray(answers["scores"]),
            multi_label=answers["label"].ndim > 1,
        )


def _as_named(label: Any, task: Any) -> Any:
    """A file's label, or several, as the model names it: a file may have "true" for "True"."""
    if isinstance(label, list):
        return [_as_named(part, task) for part in label]
    return task.labels[task.label_map.id_of(label)] if isinstance(label, str) else label

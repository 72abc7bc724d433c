"""Masked language modelling: training on unlabelled texts, mask filling, text scores."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, file_format, number
from keras_bert_zoo.errors import ConfigError

# Data readers are imported in functions: they import NumPy, which makes --help slow.
if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.tasks.masked_lm import MaskedLM

_WITH_HEAD = ("ForMaskedLM", "BertForPreTraining")


def make_command(name: str) -> MaskedLMCommand:
    """Makes the command of this module's task."""
    return MaskedLMCommand(name)


class MaskedLMCommand(TaskCommand):
    """Texts without labels, one per line or in a column of a table."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._new_head = False

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the column and the format of the texts."""
        options.add_table_options(parser, label=False, text_format=True)
        if labelled:
            return
        parser.add_argument(
            "--top-k", type=options.positive_int, help="tokens per mask; default: as saved"
        )
        parser.add_argument(
            "--pseudo-perplexity",
            action="store_true",
            help="score the probability of each text instead of filling masks; a text of n tokens "
            "needs n rows",
        )

    def add_train_options(self, group: Any) -> None:
        """Adds the masking options."""
        group.add_argument(
            "--mask-rate", type=options.open_share, default=0.15, help="fraction of words to mask"
        )
        group.add_argument(
            "--whole-words", action="store_true", help="mask all tokens of a word together"
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that the task does not support."""
        if args.probe_epochs:
            raise ConfigError(f"--probe-epochs does not apply to --task {self.name}")
        if args.fold_predictions:
            raise ConfigError(
                f"--fold-predictions does not apply to --task {self.name}: its texts have no masks "
                "to fill"
            )

    def metric_options(self, args: argparse.Namespace) -> tuple[str, ...]:
        """The options that determine the masked tokens."""
        return "mask_rate", "whole_words", "max_length"

    def read(self, path: str, args: argparse.Namespace) -> Examples:
        """Reads texts."""
        from keras_bert_zoo.data.tables import read_table

        return read_table(path, label=None, **_table(args, path))

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads texts."""
        from keras_bert_zoo.data.tables import read_table_in_parts

        return read_table_in_parts(
            source, label=None, replace_invalid=args.replace_invalid, **_table(args, args.input)
        )

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Decides whether to keep the preset's head; by default it is kept."""
        names = config.get("architectures") or []
        has_head = any(str(name).endswith(_WITH_HEAD) for name in names)
        if args.keep_head and not has_head:
            raise ConfigError(
                f"--keep-head needs a preset for --task {self.name}, but {args.preset} is a "
                f"{names[0] if names else 'model without architectures in its config.json'}"
            )
        self._new_head = not (has_head if args.keep_head is None else args.keep_head)

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task."""
        from keras_bert_zoo.tasks.masked_lm import MaskedLM

        return MaskedLM.from_preset(
            args.preset,
            new_head=self._new_head,
            mask_rate=args.mask_rate,
            whole_words=args.whole_words,
            **common,
        )

    def check_loaded(self, task: MaskedLM, args: argparse.Namespace) -> None:
        """Sets the number of predicted tokens."""
        top_k = getattr(args, "top_k", None)
        if top_k is not None:
            if top_k > task.tokenizer.vocabulary_size:
                raise ConfigError(
                    f"expected --top-k of at most {task.tokenizer.vocabulary_size}, the size of "
                    f"the vocabulary, received {top_k}"
                )
            task.top_k = top_k

    def answer_rows(
        self, task: MaskedLM, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Fills masks or scores texts."""
        if getattr(args, "pseudo_perplexity", False):
            measures = task.pseudo_perplexity(examples, batch_size=args.batch_size)
            return [
                {
                    "text": text,
                    "pseudo_perplexity": number(measures["pseudo_perplexity"][index]),
                    "pseudo_log_likelihood": number(measures["pseudo_log_likelihood"][index]),
                    "tokens": int(measures["tokens"][index]),
                }
                for index, text in enumerate(examples.texts)
            ]
        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, text in enumerate(examples.texts):
            masks = []
            for place in range(answers["end"].shape[1]):
                if answers["end"][index][place]:
                    tokens = answers["token"][index][place].tolist()
                    scores = [number(value) for value in answers["score"][index][place]]
                    span = {name: int(answers[name][index][place]) for name in ("start", "end")}
                    masks.append({**span, "token": tokens, "score": scores})
            rows.append({"text": text, "filled": answers["filled"][index][0], "masks": masks})
        return rows

    def errors(
        self, task: MaskedLM, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists wrongly predicted tokens, the highest score first."""
        return [
            {
                "text": row["text"],
                "label": row["token"],
                "predicted": row["predicted"],
                "score": number(row["score"]),
                "row": examples.rows[row["index"]],
            }
            for row in task.mistakes(examples, batch_size=args.batch_size)
        ]


def _table(args: argparse.Namespace, path: str) -> dict[str, Any]:
    table = options.table_options(args)
    if table.pop("text_pair") is not None:
        raise ConfigError("--text-pair does not apply to --task masked-lm: it takes one text")
    if table["format"] is None and file_format(path) == "text":
        table["format"] = "text"
    return table

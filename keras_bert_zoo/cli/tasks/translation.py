"""Translation: parallel texts in a table or in two files, or single texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, number
from keras_bert_zoo.errors import ConfigError

# Data readers are imported in functions: they import NumPy, which makes --help slow.
if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.tasks.translation.translator import Translator


def make_command(name: str) -> TranslationCommand:
    """Makes the command of this module's task."""
    return TranslationCommand(name)


class TranslationCommand(TaskCommand):
    """Pairs of a text and its translation."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._train: Examples | None = None
        self._is_new = True

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the texts."""
        options.add_table_options(parser, label=False, text_format=not labelled, pair=False)
        if labelled:
            parser.add_argument(
                "--translation",
                metavar="COLUMN",
                default="translation",
                help="column of the translation; instead of a table, two files with the same "
                "number of lines may be given: corpus.en,corpus.zh",
            )
            parser.add_argument(
                "--bleu-tokenizer",
                choices=("13a", "intl", "zh", "char", "none"),
                help="tokenizer of sacreBLEU; default: zh for Chinese, char for other scripts "
                "without spaces, else 13a",
            )
        parser.add_argument(
            "--num-beams",
            type=options.positive_int,
            help="number of beams; 1: greedy search; default: as saved, 4 for a new decoder",
        )
        parser.add_argument(
            "--length-penalty",
            type=options.finite_float,
            metavar="POWER",
            help="divide log-probabilities by the number of tokens to this power; default: as "
            "saved, 1 for a new decoder",
        )

    def add_train_options(self, group: Any) -> None:
        """Adds the options of the decoder."""
        group.add_argument(
            "--target",
            metavar="NAME",
            help="initial decoder: a preset of the family bert, or a directory with only a "
            "vocabulary for the blocks of --preset; default: --preset",
        )
        group.add_argument(
            "--all-target-tokens",
            action="store_true",
            help="also keep target tokens that no translation of --train contains",
        )
        group.add_argument(
            "--decoder-layers",
            type=options.positive_int,
            help="number of blocks of the initial decoder to use; default: all",
        )
        group.add_argument(
            "--decoder-dropout", type=options.share, help="default: as in the initial decoder"
        )
        group.add_argument(
            "--max-target-length",
            type=options.positive_int,
            help="maximum number of tokens of a translation; default: 128, or as saved",
        )

    def metric_options(self, args: argparse.Namespace) -> tuple[str, ...]:
        """The options that determine the tokens of the translations."""
        return "target", "all_target_tokens", "max_target_length"

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that do not apply, and checks early that sacreBLEU is installed."""
        if args.probe_epochs:
            raise ConfigError(f"--probe-epochs does not apply to --task {self.name}")
        if args.dev or args.dev_fraction:
            from keras_bert_zoo.metrics.bleu import check_bleu

            check_bleu()

    def read(self, path: str, args: argparse.Namespace) -> Examples:
        """Reads texts with their translations."""
        from keras_bert_zoo.data.parallel_text import read_parallel

        table = options.table_options(args)
        del table["text_pair"]
        return read_parallel(path, translation=args.translation, **table)

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads texts."""
        table = options.table_options(args)
        del table["text_pair"]
        return self.read_table_in_parts(source, args, table)

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Compares options of a new decoder with a preset that has one."""
        has_decoder = config.get("model_type") == "encoder-decoder"
        self._is_new = not has_decoder
        if args.keep_head and not has_decoder:
            raise ConfigError(
                f"--keep-head needs a preset with a decoder, but {args.preset} has none"
            )
        if has_decoder and args.keep_head is False:
            raise ConfigError(
                f"--no-keep-head needs an encoder preset, but {args.preset} is a translator; pass "
                "the preset of its encoder"
            )
        for name in ("target", "all_target_tokens", "decoder_layers", "decoder_dropout"):
            if has_decoder and getattr(args, name) not in (None, False):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is for a new decoder, but {args.preset} has one"
                )

    def check_data(self, train: Examples, dev: Examples | None) -> None:
        """Collects the translations for the target vocabulary."""
        self._train = train

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task."""
        from keras_bert_zoo.tasks.translation.translator import Translator

        trimmed = self._is_new and not args.all_target_tokens
        task = Translator.from_preset(
            args.preset,
            target=args.target,
            target_texts=self._train.text_pairs if self._train and trimmed else None,
            decoder_layers=args.decoder_layers,
            decoder_dropout=args.decoder_dropout,
            label_smoothing=args.label_smoothing,
            max_target_length=args.max_target_length,
            num_beams=args.num_beams,
            length_penalty=args.length_penalty,
            **common,
        )
        task.bleu_tokenizer = args.bleu_tokenizer
        return task

    def check_loaded(self, task: Translator, args: argparse.Namespace) -> None:
        """Sets the search options."""
        for name in ("num_beams", "length_penalty"):
            if getattr(args, name, None) is not None:
                setattr(task, name, getattr(args, name))
        task.check_search()
        task.bleu_tokenizer = getattr(args, "bleu_tokenizer", None)

    def answer_rows(
        self, task: Translator, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Translates texts."""
        answers = task.predict(examples, batch_size=args.batch_size)
        return [
            {
                "text": text,
                "translation": answers["translation"][index],
                "score": number(answers["score"][index]),
            }
            for index, text in enumerate(examples.texts)
        ]

    def errors(
        self, task: Translator, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists translations that differ from the reference, the lowest chrF2 first."""
        from keras_bert_zoo.metrics.bleu import likeness

        rows = []
        for index, answer in enumerate(self.answer_rows(task, examples, args)):
            reference = (examples.text_pairs or [])[index]
            if answer["translation"] != reference:
                rows.append(
                    {
                        "text": answer["text"],
                        "label": reference,
                        "predicted": answer["translation"],
                        "score": answer["score"],
                        "chrf": likeness(answer["translation"], reference),
                        "row": examples.rows[index],
                    }
                )
        return sorted(rows, key=lambda row: row["chrf"])

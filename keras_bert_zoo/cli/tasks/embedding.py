"""Embedding: training on groups of texts, evaluation by similarity or retrieval."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, number
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.data.pairs import TextGroups

_LOSSES = ("multiple-negatives", "cosent", "cosine", "triplet")
_SIZE = re.compile("[1-9][0-9]{0,8}")
_TABLE = ("columns", "format", "delimiter", "encoding")


def make_command(name: str) -> EmbeddingCommand:
    """Makes the command of this module's task."""
    return EmbeddingCommand(name)


class EmbeddingCommand(TaskCommand):
    """Groups of texts in a table: pairs, pairs with scores, triplets, or texts alone."""

    unit = "groups of texts"
    predicts_pairs = False

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the table."""
        options.add_table_options(parser, label=False, text_format=not labelled)
        if not labelled:
            return
        group = parser.add_group("groups of texts")
        group.add_argument(
            "--negatives",
            metavar="NAMES",
            type=options.comma_separated,
            default=[],
            help="columns of hard negatives, comma-separated; or one column or key with a list",
        )
        group.add_argument(
            "--score", metavar="COLUMN", help="column of the similarity of the two texts of a pair"
        )
        group.add_argument(
            "--label",
            metavar="COLUMN",
            help="column of a label: texts with the same label are no negatives of each other",
        )

    def add_train_options(self, group: Any) -> None:
        """Adds the head and the loss."""
        group.add_argument(
            "--pooling",
            metavar="NAMES",
            type=options.comma_separated,
            help="mean, cls, max or several, comma-separated; default: that of the preset, or mean",
        )
        group.add_argument(
            "--dimensions",
            type=options.positive_int,
            help="number of leading embedding dimensions to keep",
        )
        group.add_argument(
            "--loss",
            choices=_LOSSES,
            help="default: multiple-negatives; with --score, cosent",
        )
        group.add_argument(
            "--scale",
            type=options.positive_float,
            help="factor of similarities, the inverse of the temperature; default: 20",
        )
        group.add_argument(
            "--symmetric", action="store_true", help="also retrieve the anchors of positives"
        )
        group.add_argument(
            "--margin", type=options.positive_float, help="margin of the loss triplet; default: 5"
        )
        group.add_argument(
            "--matryoshka",
            metavar="SIZES",
            type=options.comma_separated,
            help="sizes to which embeddings can be truncated, comma-separated, such as 384,192,96",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that do not apply to the loss."""
        loss = self._loss_name(args)
        ranking = loss == "multiple-negatives"
        for name, applies in (
            ("score", loss in ("cosent", "cosine")),
            ("scale", ranking or loss == "cosent"),
            ("symmetric", ranking),
            ("label", ranking),
            ("margin", loss == "triplet"),
            ("keep_head", False),
            ("probe_epochs", False),
        ):
            if getattr(args, name) and not applies:
                general = name in ("keep_head", "probe_epochs")
                choice = f"--task {self.name}" if general else f"--loss {loss}"
                raise ConfigError(f"--{name.replace('_', '-')} does not apply to {choice}")
        if loss in ("cosent", "cosine") and not args.score:
            raise ConfigError(f"--loss {loss} needs the scores of pairs; pass --score COLUMN")
        if args.matryoshka and not all(map(_SIZE.fullmatch, args.matryoshka)):
            raise ConfigError(
                f"expected --matryoshka to be sizes such as 384,192, received {args.matryoshka}"
            )

    def _loss_name(self, args: argparse.Namespace) -> str:
        return args.loss or ("cosent" if args.score else "multiple-negatives")

    def read(self, path: str, args: argparse.Namespace) -> TextGroups:
        """Reads groups of texts; single texts without --text-pair."""
        from keras_bert_zoo.data.pairs import read_groups

        table = {name: options.table_options(args)[name] for name in _TABLE}
        if args.text_pair is None:
            if args.negatives or args.score:
                raise ConfigError(
                    "--negatives and --score need a second text; pass --text-pair COLUMN"
                )
            return read_groups(path, [args.text], label=args.label, **table)
        texts = [args.text, args.text_pair]
        lists: dict[str, Any] = {}
        form = table["format"] or self.format_of(path, labelled=True)
        if form == "jsonl" and len(args.negatives) > 1:
            raise ConfigError("expected one key with a list of texts in --negatives for JSON Lines")
        if len(args.negatives) == 1:
            lists["negatives"] = args.negatives[0]
        else:
            texts += args.negatives
        return read_groups(path, texts, score=args.score, label=args.label, **lists, **table)

    def measures(self, examples: TextGroups) -> bool:
        """Whether the examples are groups; the measures compare texts of a group."""
        return examples.kind != "texts"

    def folds(self, examples: TextGroups, count: int, seed: int) -> list[np.ndarray]:
        """Divides groups into folds; single texts cannot be measured."""
        if not self.measures(examples):
            raise ConfigError(
                "--folds measures groups of texts, received single texts; pass --text-pair COLUMN"
            )
        return super().folds(examples, count, seed)

    def metric_options(self, args: argparse.Namespace) -> tuple[str, ...]:
        """The options of the loss for single texts, whose metric is the loss."""
        if args.text_pair is not None:
            return ()
        # The other texts of a batch are the negatives.
        batches = ("batch_size", "per_replica_batch_size")
        return ("loss", "scale", "symmetric", "margin", "matryoshka", *batches)

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads a table of texts, or lines of text."""
        table = options.table_options(args)
        if table.pop("text_pair") is not None:
            raise ConfigError("--text-pair does not apply: predict embeds single texts")
        return self.read_table_in_parts(source, args, table)

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds an embedder."""
        from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder

        return TextEmbedder.from_preset(
            args.preset, pooling=args.pooling, dimensions=args.dimensions, **common
        )

    def fit_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Makes the loss."""
        from keras_bert_zoo.training.contrastive import MatryoshkaLoss, make_loss

        name = self._loss_name(args)
        given = {"scale": args.scale, "margin": args.margin, "symmetric": args.symmetric or None}
        loss = make_loss(
            name.replace("-", "_"), **{k: v for k, v in given.items() if v is not None}
        )
        if args.matryoshka:
            loss = MatryoshkaLoss(loss, [int(size) for size in args.matryoshka])
        return {"loss": loss}

    def add_export_options(self, group: Any) -> None:
        """Adds the documents to search."""
        group.add_argument(
            "--index",
            metavar="FILE",
            help="documents to search, one per line or a table with --index-text; the export then "
            "returns the most similar ones",
        )
        group.add_argument(
            "--index-text",
            metavar="COLUMN",
            default="text",
            help="column of the documents in a table",
        )
        group.add_argument(
            "--top-k", type=options.positive_int, default=10, help="number of documents to return"
        )

    def export_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Reads the documents to search."""
        if args.index is None:
            return {}
        from keras_bert_zoo.data.tables import read_table

        plain = self.format_of(args.index, labelled=False) == "text"
        documents = read_table(
            args.index,
            text=args.index_text,
            label=None,
            format="text" if plain else None,
        )
        return {"index": documents, "top_k": args.top_k}

    def answer_rows(
        self, task: Any, examples: Any, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Embeds texts."""
        vectors = task.embed(examples.texts, batch_size=args.batch_size)
        return [
            {"text": text, "embedding": [number(value) for value in vector]}
            for text, vector in zip(examples.texts, vectors, strict=True)
        ]

    def errors(
        self, task: Any, examples: TextGroups, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists pairs with the largest rank errors, or texts that retrieved a wrong text."""
        from keras_bert_zoo.metrics.embedding_errors import worst_groups

        return worst_groups(examples, *task.group_vectors(examples, batch_size=args.batch_size))

"""Open-domain question answering over a collection that `index` built."""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.question_answering import QuestionCommand
from keras_bert_zoo.errors import ConfigError


def make_command(name: str) -> OpenDomainCommand:
    """Makes the command of this module's task."""
    return OpenDomainCommand(name)


class OpenDomainCommand(QuestionCommand):
    """Questions without a text."""

    reads_contexts: ClassVar[bool] = False

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the options of the questions and of the search."""
        super().add_data_options(parser, labelled=labelled)
        group = parser.add_group("search")
        group.add_argument(
            "--top-passages",
            type=options.positive_int,
            help="number of passages read for a question; default: as saved",
        )
        group.add_argument(
            "--retriever-weight",
            type=options.non_negative_float,
            help="weight of similarities relative to the reader's logits; default: as saved",
        )

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Raises: a collection is built by `index`, not trained."""
        raise ConfigError("a collection is not trained; build it with `keras-bert-zoo index`")

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Sets the options of retrieval and answers."""
        for name in ("top_k", "top_passages", "retriever_weight"):
            value = getattr(args, name, None)
            if value is not None:
                setattr(task, name, value)

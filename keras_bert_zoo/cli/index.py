"""keras-bert-zoo index: builds a searchable collection of documents for question answering."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import named_flags, show_next
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples

DESCRIPTION = """\
Build a collection for open-domain question answering. The documents are split into passages. A
retriever (an embedding model) finds passages for a question. A reader (a question-answering model)
finds the answer in them. The output contains all three, for predict, evaluate and export."""

EXAMPLES = """
  keras-bert-zoo index --retriever minilm_l6_en_uncased --reader runs/questions \\
      --documents articles.jsonl --text body --output runs/library
  keras-bert-zoo index --retriever runs/search --reader runs/questions --documents pages.txt \\
      --dev dev.json --output runs/library
  echo "Who built the bridge?" | keras-bert-zoo predict --model runs/library
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--retriever",
        required=True,
        metavar="MODEL",
        help="directory or preset of an embedding model",
    )
    parser.add_argument(
        "--reader", required=True, metavar="DIR", help="directory of a question-answering model"
    )
    parser.add_argument("--documents", required=True, metavar="FILE", help="documents to search")
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    group = parser.add_group("columns and format of the documents")
    # Without defaults: `read_documents` must know which options were given.
    group.add_argument("--text", metavar="COLUMN", help="column of the document; default: text")
    options.add_columns_option(group)
    group.add_argument(
        "--format",
        choices=("text", "jsonl", "csv", "tsv", "squad"),
        help="default: detected from the name, which may end in .gz; text (one document per line) "
        "for .txt, squad (documents are its contexts) for .json",
    )
    options.add_delimiter_option(group)
    group.add_argument("--encoding", help="the file's encoding; default: utf-8")
    group = parser.add_group("passages and answers")
    group.add_argument(
        "--passage-tokens",
        type=options.positive_int,
        help="maximum number of tokens of a passage; default: the maximum length of the retriever",
    )
    group.add_argument(
        "--passage-overlap",
        type=options.non_negative_int,
        help="tokens shared by adjacent passages of a document; default: a quarter of a passage",
    )
    group.add_argument(
        "--top-passages",
        type=options.positive_int,
        default=5,
        help="number of passages read for a question",
    )
    group.add_argument(
        "--top-k",
        type=options.positive_int,
        default=1,
        help="number of answers to a question; if above 1, answers are lists",
    )
    group.add_argument(
        "--retriever-weight",
        type=options.non_negative_float,
        default=50.0,
        help="weight of a passage's similarity relative to the reader's logits",
    )
    group.add_argument(
        "--dev",
        metavar="FILE",
        help="questions with answers in SQuAD format, to tune --retriever-weight on",
    )
    group.add_argument(
        "--skip-misplaced",
        action="store_true",
        help="accept answers in --dev that are not at their offsets; only their texts are compared",
    )
    parser.add_argument(
        "--batch-size", type=options.positive_int, default=64, help="passages per batch"
    )
    options.add_dtype_option(parser, default="float32")
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import check_output
    from keras_bert_zoo.data.squad import read_squad

    check_output(args.output)
    with named_flags(argparse.Namespace(text=args.text or "text")):
        documents = read_documents(args)
    dev = (
        read_squad(args.dev, skip_misplaced=args.skip_misplaced, scoring=True) if args.dev else None
    )

    from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

    tf = start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
    from keras_bert_zoo.tasks.open_domain.checks import check_search
    from keras_bert_zoo.tasks.open_domain.question_answerer import OpenDomainQuestionAnswerer
    from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer

    search = {
        "top_passages": args.top_passages,
        "top_k": args.top_k,
        "retriever_weight": args.retriever_weight,
    }
    check_search(**search)  # before the models are loaded
    ignored = {"ignore_config_keys": args.ignore_config_keys}
    task = OpenDomainQuestionAnswerer(
        TextEmbedder.from_preset(args.retriever, **ignored),
        QuestionAnswerer.load(args.reader, dtype=keras_dtype(args.dtype, tf), **ignored),
        documents,
        passage_tokens=args.passage_tokens,
        passage_overlap=args.passage_overlap,
        **search,
        batch_size=args.batch_size,
        verbose=int(sys.stderr.isatty() and sys.stdout.isatty() and not args.json),
    )
    if dev is not None:
        task.tune_weight(dev, batch_size=args.batch_size)
    task.save(args.output)
    figures = {
        "documents": len(documents),
        "passages": len(task.passages),
        "retriever_weight": task.retriever_weight,
    }
    if args.json:
        print(json.dumps({"path": args.output, **figures}))
        return 0
    show(
        f"{len(documents):,} documents in {len(task.passages):,} passages of at most "
        f"{task.passage_tokens} tokens; retriever weight {task.retriever_weight:g}"
    )
    show_next(args.output)
    return 0


def read_documents(args: argparse.Namespace) -> Examples:
    """Reads documents from a table, from lines of text, or from the contexts of SQuAD files.

    Args:
        args: the arguments of the command.

    Returns:
        Examples; each context of a SQuAD file once.

    Raises:
        DataError: a row is invalid; the message names file and line.
        ConfigError: an option does not apply to the format.
    """
    from keras_bert_zoo.cli.tasks.base import file_format
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.data.squad import read_contexts
    from keras_bert_zoo.data.tables import read_table

    form = args.format or file_format(args.documents, {".json": "squad"})
    if form == "squad":
        table_only = ("text", "columns", "delimiter", "encoding")
        given = [f"--{name}" for name in table_only if getattr(args, name) is not None]
        if given:
            raise ConfigError(
                f"expected no table options for --format squad, received {', '.join(given)}; "
                "remove them or choose another --format"
            )
        documents = Examples(read_contexts(args.documents), path=args.documents)
    else:
        table = {n: value for n, value in options.table_options(args).items() if value is not None}
        if form == "text":
            table["format"] = "text"
        documents = read_table(args.documents, label=None, **table)
    if not any(text.strip() for text in documents.texts):
        raise DataError(f"{args.documents}: expected documents to search, but all are empty")
    return documents

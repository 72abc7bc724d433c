"""keras-bert-zoo convert: writes a checkpoint in another format and compares the two."""

from __future__ import annotations

import argparse

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser

DESCRIPTION = """\
Write a checkpoint in another format. SRC is a directory in Hugging Face's format (safetensors,
sharded or not, tf_model.h5, or pytorch_model.bin with --allow-pickle), Google's TF1 checkpoint, a
KerasHub preset, a catalogued name or hf://owner/name. The converted checkpoint is loaded again.
DST appears only after its tensors and outputs have been compared with those of SRC."""

EXAMPLES = """
  keras-bert-zoo convert uncased_L-12_H-768_A-12 bert-base --to huggingface
  keras-bert-zoo convert minilm_l6_en_uncased minilm-tf1 --to google
  keras-bert-zoo convert runs/pretrained bert-keras-hub --to keras-hub --encoder-only
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("source", metavar="SRC", help="directory, catalogued name or handle")
    parser.add_argument("destination", metavar="DST", help="directory to write, missing or empty")
    parser.add_argument(
        "--to",
        required=True,
        choices=("huggingface", "google", "keras-hub", "preset"),
        help="huggingface: every tensor in its dtype; preset: as this package saves, float32; "
        "google: TF1 checkpoint (BERT, ALBERT, ELECTRA); keras-hub: preset directory",
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read a pytorch_model.bin; only a fixed list of contents is allowed, and no code runs",
    )
    parser.add_argument(
        "--approximate-gelu",
        action="store_true",
        help="to keras-hub: write a model with erf-GELU; KerasHub computes the tanh approximation, "
        "so the outputs differ",
    )
    parser.add_argument(
        "--encoder-only",
        action="store_true",
        help="write the encoder without heads, with its pooler if the format has one",
    )
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.presets.convert import convert_checkpoint, describe

    result = convert_checkpoint(
        args.source,
        args.destination,
        args.to,
        allow_pickle=args.allow_pickle,
        ignore_config_keys=args.ignore_config_keys,
        approximate_gelu=args.approximate_gelu,
        encoder_only=args.encoder_only,
    )
    if args.json:
        print(describe(result))
        return 0
    dropped = ", ".join(result.heads_left_out)
    heads = (", ".join(result.heads) or "no head") + (dropped and f"; left out: {dropped}")
    show(
        f"converted {result.family} ({heads}): {result.source_format} -> {result.format}, "
        f"in {result.path}"
    )
    show(f"tensors: {result.tensors} identical, {len(result.differing)} differ")
    if result.left_out:
        show(f"  not in the result: {', '.join(result.left_out)}")
    show(f"tokenizer: {'converted' if result.tokenizer else 'none'}")
    for name, difference in result.outputs.items():
        show(f"  {name:<24} {difference:.1e}")
    show(f"largest difference: {result.largest_difference:.1e}")
    return 0

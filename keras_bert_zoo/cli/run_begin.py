"""The begin of a training run: TensorFlow, strategy, batch size, precision, output of progress."""

from __future__ import annotations

import argparse
import io
import sys
from typing import Any, NamedTuple, TextIO

from keras_bert_zoo.cli.training_options import set_batch_size, strategy_of

__all__ = ["Begun", "begin_run"]


class Begun(NamedTuple):
    """The things that a run needs before its model.

    Attributes:
        strategy: tf.distribute.Strategy.
        dtype: str. Keras dtype policy of the encoder.
        out: where the progress is written. The first worker shows it.
    """

    strategy: Any
    dtype: str
    out: TextIO


def begin_run(args: argparse.Namespace, batch_size: int) -> Begun:
    """Starts TensorFlow and reads the options of the devices; sets `args.batch_size`.

    Args:
        args: the parsed arguments.
        batch_size: int. The default examples per step, over all replicas.

    Returns:
        Begun.
    """
    from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

    tf = start_tensorflow(verbose=args.verbose, first=lambda: strategy_of(args))

    from keras_bert_zoo.training.strategies import is_chief

    strategy = strategy_of(args)
    set_batch_size(args, batch_size, strategy.num_replicas_in_sync)
    out: TextIO = sys.stderr if args.json else sys.stdout
    if not is_chief(strategy):
        out = io.StringIO()
    on_tpu = args.strategy == "tpu" and args.dtype == "auto"
    return Begun(strategy, "mixed_bfloat16" if on_tpu else keras_dtype(args.dtype, tf), out)

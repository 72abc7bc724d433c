"""Checks of the options of a Beam pipeline, without imports of Beam and TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.extras import check_package

__all__ = ["check_runner"]


def check_runner(runner: str | None, runner_options: Sequence[str]) -> None:
    """Checks the options of a pipeline.

    Args:
        runner: str or None.
        runner_options: flags of the pipeline.

    Raises:
        ConfigError: apache-beam is not installed, or there are flags without a runner.
    """
    if runner is not None:
        check_package("apache_beam", "`runner`", package="apache-beam", extra="beam")
    elif runner_options:
        raise ConfigError(
            f"expected `runner` with `runner_options`, received {list(runner_options)!r:.200} "
            "without a runner"
        )

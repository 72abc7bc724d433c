"""The phases of a run, from the options of the command line; it does not import TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_bert_zoo.errors import ConfigError

__all__ = ["PhaseOptions", "parse_phases", "steps_for_tokens", "steps_of_phases"]


@dataclass(frozen=True)
class PhaseOptions:
    """A phase as the command line gives it.

    Args:
        max_length: int. Tokens of an example.
        share: float. Its share of the steps.
        batch_size: int or None. Examples per step; None: the tokens of a step are those of the
            first phase.
    """

    max_length: int
    share: float
    batch_size: int | None = None


def parse_phases(text: str) -> list[PhaseOptions]:
    """Reads LENGTH:SHARE or LENGTH:SHARE:BATCH of phases, comma-separated.

    Args:
        text: str.

    Returns:
        list of PhaseOptions, at least one.

    Raises:
        ConfigError: another form, or the shares do not add up to 1.

    Example:
        >>> parse_phases("128:0.9:256,512:0.1")[0]
        PhaseOptions(max_length=128, share=0.9, batch_size=256)
    """
    phases = []
    for part in text.split(","):
        try:
            length, share, *rest = part.split(":")
            sizes = [int(size) for size in rest]
            phase = PhaseOptions(int(length), float(share), *sizes)
        except (TypeError, ValueError):
            phase = PhaseOptions(0, 0.0)
        if phase.max_length < 3 or not 0 < phase.share <= 1 or (phase.batch_size or 1) < 1:
            raise ConfigError(
                "expected phases such as 128:0.9,512:0.1 or 128:0.9:256,512:0.1:64 (length, share "
                f"of the steps, batch size), received {part!r:.60}"
            )
        phases.append(phase)
    total = sum(phase.share for phase in phases)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise ConfigError(f"expected shares of phases that add up to 1, received {total:g}")
    return phases


def steps_of_phases(steps: int, shares: Sequence[float]) -> list[int]:
    """Divides the steps of a run among its phases.

    Args:
        steps: int.
        shares: float, with a sum of 1.

    Returns:
        list of int, with the sum `steps`; each phase has one step or more.

    Raises:
        ConfigError: there are fewer steps than phases.

    Example:
        >>> steps_of_phases(1001, [0.9, 0.1])
        [901, 100]
    """
    if steps < len(shares):
        raise ConfigError(f"expected a step or more for each phase, received {steps} steps in all")
    result: list[int] = []
    done = 0.0
    for index, share in enumerate(shares):
        done += share
        later = len(shares) - 1 - index
        end = min(round(done * steps), steps - later)
        result.append(max(end - sum(result), 1))
    return result


def steps_for_tokens(tokens: int, shares: Sequence[float], per_step: Sequence[float]) -> int:
    """Returns the number of steps that read a number of tokens.

    Args:
        tokens: int.
        shares: float. Each phase's share of the steps.
        per_step: float. The mean number of tokens of a step of each phase.

    Example:
        >>> steps_for_tokens(10_000, [0.5, 0.5], [100.0, 400.0])
        40
    """
    mean = sum(share * size for share, size in zip(shares, per_step, strict=True))
    return max(len(shares), math.ceil(tokens / mean))

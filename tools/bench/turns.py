"""Times engines side by side, so that other load on the machine affects all of them equally."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turns(
    engines: Mapping[str, Callable[[], Any]], rounds: int, *, ignored: int = 1, counted: int = 2
) -> dict[str, list[float]]:
    """Calls the engines in turns, in a new random order in each round.

    The first calls of a turn don't count: the threads of the engine before still wait for work, and
    use the cores.

    Args:
        engines: name -> function that computes once.
        rounds: int, turns of each engine.
        ignored: int, calls per turn that don't count.
        counted: int, calls per turn that count.

    Returns:
        dict, name -> seconds of the counted calls.
    """
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    generator = random.Random(0)
    for _ in range(rounds):
        for name in generator.sample(list(engines), len(engines)):
            for call in range(ignored + counted):
                begin = time.perf_counter()
                engines[name]()
                if call >= ignored:
                    seconds[name].append(time.perf_counter() - begin)
    return seconds

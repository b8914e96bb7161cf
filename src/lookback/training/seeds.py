"""The same experiment from several seeds, because one run says little."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")


def over_seeds(run: Callable[[int], Result], seeds: Sequence[int] = (0, 1, 2)) -> dict[int, Result]:
    """Call ``run(seed)`` for each seed, with torch seeded by it on every device.

    The generators' states are as before afterwards, so what follows does not depend on how many
    numbers the runs drew.

    Args:
        run: one experiment; it also receives the seed, for generators of its own.
        seeds: different from one another.

    Returns:
        Seed → what the run returned.

    Raises:
        ValueError: if there is no seed, or one comes twice.
    """
    if not len(seeds):
        raise ValueError("there is no seed to run with")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"the seeds repeat: {list(seeds)}")
    results = {}
    for seed in seeds:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            results[seed] = run(seed)
    return results


def mean_and_deviation(values: Iterable[float | int]) -> tuple[float, float]:
    """Mean and sample standard deviation, ``n − 1`` in the denominator.

    Raises:
        ValueError: if there are fewer than two values.
    """
    values = [float(x) for x in values]
    if len(values) < 2:
        raise ValueError(f"a spread needs at least 2 values, got {len(values)}")
    return statistics.fmean(values), statistics.stdev(values)

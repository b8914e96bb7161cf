"""Learning rates as a function of the step: each returns a factor on the optimiser's own rate.

A factor depends on the step alone, so a resumed run needs nothing but the number of steps done.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def inverse_square_root(D: int, warmup: int) -> Schedule:
    """The Transformer's rate (Vaswani et al. 2017, eq. 3), for an optimiser whose own rate is 1.

        rate(t) = D^(−1/2) · min(t^(−1/2), t · warmup^(−3/2)),   t = step + 1

    Args:
        D: model width.
        warmup: steps in which the rate rises.

    Raises:
        ValueError: if one of them is below 1.
    """
    if D < 1 or warmup < 1:
        raise ValueError(f"need width ≥ 1 and warmup ≥ 1, got {D} and {warmup}")

    def factor(step: int) -> float:
        t = step + 1
        return D**-0.5 * min(t**-0.5, t * warmup**-1.5)

    return factor


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """A straight rise to 1 over ``warmup`` steps, then half a cosine down to ``floor``.

    Args:
        steps: length of the whole run; the floor is reached at its last step and kept after it.
        warmup: steps of the rise.
        floor: factor at the end.

    Raises:
        ValueError: if the warm-up does not leave a step, or the floor lies outside 0 to 1.
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"{warmup} steps of warm-up do not fit into {steps} steps")
    if not 0 <= floor <= 1:
        raise ValueError(f"the floor must lie in 0 to 1, got {floor}")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        share = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
        return floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2

    return factor


def one_cycle(
    steps: int, *, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000
) -> Schedule:
    """Up and down again in one run (Smith & Topin 2019), as torch's ``OneCycleLR`` does.

    Args:
        steps: length of the whole run.
        rise: share of the run in which the rate rises to 1.
        start: factor at the first step.
        end: factor at the last step.

    Raises:
        ValueError: if there are fewer than 2 steps, or ``rise`` does not lie between 0 and 1.
    """
    if steps < 2 or not 0 < rise < 1:
        raise ValueError(f"need steps ≥ 2 and 0 < rise < 1, got {steps} and {rise}")
    top = rise * steps - 1  # the step of the highest rate, not always a whole number

    def between(low: float, high: float, share: float) -> float:
        return high + (low - high) * (1 + math.cos(math.pi * share)) / 2

    def factor(step: int) -> float:
        if step < top:
            return between(start, 1.0, step / top)
        return between(1.0, end, min((step - top) / (steps - 1 - top), 1.0))

    return factor

"""The adding task: remember two marked numbers over a long sequence, and add them.

Hochreiter and Schmidhuber 1997, section 5.4, in the form of Le et al. 2015. Drawn at random, of any
size; no licence needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lookback.data.seeds import Seed, between, check_count, generator

GUESS = 1 / 6
"""Mean squared error of always answering 1, the mean: the variance of a sum of two numbers."""


class Adding(NamedTuple):
    """``x`` is ``(n, T, 2)``: a number from 0 to 1 and a mark, 0 or 1. ``y`` is ``(n,)``."""

    x: Float[Tensor, "n T 2"]
    y: Float[Tensor, " n"]


def sample(n: int, T: int, *, seed: Seed = 0, dtype: torch.dtype = torch.float32) -> Adding:
    """Draw ``n`` sequences of ``T`` numbers, one marked in each half.

    Args:
        n: number of examples.
        T: length, at least 2.
        seed: an integer, or a generator that moves on.
        dtype: of the numbers.

    Raises:
        ValueError: if ``n`` is below 1 or ``T`` below 2.
    """
    check_count(n)
    if T < 2:
        raise ValueError(f"two marks need a length of at least 2, got {T}")
    source = generator(seed)
    numbers = torch.rand(n, T, generator=source, dtype=dtype, device=source.device)
    marked = [between(0, T // 2 - 1, (n,), source), between(T // 2, T - 1, (n,), source)]
    marks = torch.zeros_like(numbers).scatter_(1, torch.stack(marked, 1), 1.0)
    return Adding(torch.stack([numbers, marks], -1), (numbers * marks).sum(1))

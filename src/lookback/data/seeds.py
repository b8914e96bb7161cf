"""Where randomness comes from: a seed starts it anew, a generator carries on."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

Seed = int | torch.Generator


def generator(seed: Seed) -> torch.Generator:
    """A fresh generator for an integer; a generator as it is.

    An integer gives the same sample at every call. A generator moves on, so that a training loop
    draws new samples from one of them, and the samples lie on its device.

    Raises:
        ValueError: if ``seed`` is neither.
    """
    if isinstance(seed, torch.Generator):
        return seed
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"a seed is an integer or a torch.Generator, got {seed!r}")
    return torch.Generator().manual_seed(seed)


def between(
    low: int, high: int, shape: tuple[int, ...], source: torch.Generator
) -> Int[Tensor, "..."]:
    """Integers drawn evenly from ``low`` to ``high``, both included, where ``source`` lives."""
    return torch.randint(low, high + 1, shape, generator=source, device=source.device)


def span(name: str, value: int | tuple[int, int], smallest: int) -> tuple[int, int]:
    """Read ``value`` as a range, both ends included; one number is a range of itself.

    Raises:
        ValueError: if the range is empty or begins below ``smallest``.
    """
    low, high = (value, value) if isinstance(value, int) else value
    if not smallest <= low <= high:
        raise ValueError(f"{name} must be {smallest} or more, low to high, got {low} to {high}")
    return low, high


def check_count(n: int, **at_least_one: int) -> None:
    """Refuse a sample of no examples, or a size below 1.

    Raises:
        ValueError: naming the number.
    """
    for name, value in {"n": n, **at_least_one}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

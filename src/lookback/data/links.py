"""Known links between the tokens of a target and those of its source, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor


@runtime_checkable
class Linked(Protocol):
    """A source and a target, and for each token of the target the positions that it comes from."""

    source: Sequence[str]
    target: Sequence[str]
    sure: Sequence[Sequence[int]]
    possible: Sequence[Sequence[int]]


def links(examples: Sequence[Linked]) -> tuple[Bool[Tensor, "B T S"], Bool[Tensor, "B T S"]]:
    """Sure and possible links of a batch, padded, as :func:`lookback.metrics.alignment_error_rate`
    takes them.

    ``T`` is one more than the longest target, for the end token, which has no link; ``S`` is the
    longest source.

    Raises:
        ValueError: if there is no example.
    """
    if not examples:
        raise ValueError("there is no example to link")
    T = 1 + max(len(example.target) for example in examples)
    S = max(len(example.source) for example in examples)
    sure, possible = (torch.zeros(len(examples), T, S, dtype=torch.bool) for _ in range(2))
    for n, example in enumerate(examples):
        for table, rows in ((sure, example.sure), (possible, example.possible)):
            for t, row in enumerate(rows):
                table[n, t, list(row)] = True
    return sure, possible

"""A linear recurrence without waiting in line: ``h_t = a_t h_{t−1} + b_t`` in ``⌈log₂ T⌉`` steps.

Two steps of a linear recurrence are again one, ``(a₂, b₂) ∘ (a₁, b₁) = (a₂ a₁, a₂ b₁ + b₂)``, and
the order of bracketing does not matter. So pairs, then fours, then eights can be joined, each for
all positions at once (Hillis & Steele 1986; Blelloch 1990, section 1.4). A nonlinear recurrence
such as ``tanh(W h + x)`` has no such rule, which is why it must wait.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lookback import masks


def scan(a: Float[Tensor, "..."], b: Float[Tensor, "T *state"]) -> Float[Tensor, "T *state"]:
    """Every state of ``h_t = a_t h_{t−1} + b_t`` from ``h_{−1} = 0``.

    Args:
        a: factor on the state before, with the time axis first; missing axes at the end, and axes
            of length 1, serve the whole state.
        b: what is added at each step.

    Returns:
        The states, in the shape of ``b``. It takes :func:`depth` steps one after the other and
        ``O(T log T)`` operations, where a loop takes ``T`` steps and ``O(T)`` operations.

    Raises:
        ValueError: if there is no time axis, ``a`` does not broadcast to ``b``, or one of them is
            not floating point.
    """
    for name, x in (("a", a), ("b", b)):
        if not x.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {x.dtype}")
        if x.ndim < 1:
            raise ValueError(f"{name} needs a time axis, got a single number")
    found = (*a.shape, *[1] * (b.ndim - a.ndim))
    if found[0] != b.shape[0] or not masks.broadcasts(found, b.shape):
        raise ValueError(f"factors {tuple(a.shape)} do not broadcast to terms {tuple(b.shape)}")
    a = a.reshape(found)
    reach = 1  # each entry stands for this many steps joined, as far as there are
    while reach < b.shape[0]:
        # terms first: they read the factors of the old reach
        b = torch.cat([b[:reach], a[reach:] * b[:-reach] + b[reach:]])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


def loop(a: Float[Tensor, "..."], b: Float[Tensor, "T *state"]) -> Float[Tensor, "T *state"]:
    """The same states, one after the other: what :func:`scan` is held against."""
    h = torch.zeros_like(b[:1].sum(0))
    states = []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t.reshape((*a_t.shape, *[1] * (h.ndim - a_t.ndim))) * h + b_t
        states.append(h)
    return torch.stack(states) if states else torch.zeros_like(b)


def depth(T: int) -> int:
    """Steps of :func:`scan` that wait for one another: ``⌈log₂ T⌉``."""
    return math.ceil(math.log2(T)) if T > 1 else 0

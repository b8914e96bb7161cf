"""Attention masks: boolean, True = may attend, broadcastable to ``(*batch, T, S)``.

A mask is data, never a large negative number: what a masked score becomes is the business of the
one softmax that reads it, so the same mask serves float16, bfloat16 and float32.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def causal(
    T: int, S: int | None = None, *, offset: int = 0, device: torch.device | str | None = None
) -> Bool[Tensor, "T S"]:
    """The past and the present, not the future (Vaswani et al. 2017, section 3.2.3).

    Query ``i`` stands at position ``offset + i`` of the source and may attend to keys ``j`` up to
    and including that position: ``mask[i, j] = (j <= i + offset)``.

    Args:
        T: number of queries.
        S: number of keys; ``T`` when left out.
        offset: position of the first query. ``0`` aligns both sequences at their start, as torch
            does; ``S - T`` aligns them at their end, as decoding with a cache needs.
        device: where the mask is made.

    Returns:
        Boolean mask of shape ``(T, S)``.

    Raises:
        ValueError: if a length is negative.
    """
    S = T if S is None else S
    _check_lengths(T, S)
    query = torch.arange(T, device=device)[:, None] + offset
    key = torch.arange(S, device=device)
    return key <= query


def padding(lengths: Int[Tensor, "*batch"], S: int) -> Bool[Tensor, "*batch 1 S"]:
    """The real tokens of each sequence, not the padding behind them.

    Args:
        lengths: number of real tokens of each sequence, each from 0 to ``S``.
        S: padded length.

    Returns:
        Boolean mask of shape ``(*batch, 1, S)``: the same keys are open to every query.

    Raises:
        ValueError: if ``lengths`` holds no integers or reaches outside ``0 … S``.
    """
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    if lengths.numel() and not (0 <= int(lengths.min()) and int(lengths.max()) <= S):
        found = f"{int(lengths.min())} to {int(lengths.max())}"
        raise ValueError(f"lengths must lie in 0 to {S}, the padded length, but run from {found}")
    key = torch.arange(S, device=lengths.device)
    return key < lengths[..., None, None]


def window(
    T: int,
    S: int | None = None,
    *,
    width: int,
    sinks: int = 0,
    causal: bool = True,
    offset: int = 0,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "T S"]:
    """The neighbourhood (Beltagy et al. 2020, section 3.1; sinks: Xiao et al. 2023, section 3.2).

    A causal window of width ``w`` holds the query's own position and the ``w - 1`` before it; a
    two-sided one holds the ``w - 1`` after it as well. The first ``sinks`` keys stay open to every
    query that may see them.

    Args:
        T: number of queries.
        S: number of keys; ``T`` when left out.
        width: keys within reach on one side, the query's own position counted; at least 1.
        sinks: keys at the start that never leave the window.
        causal: whether keys after the query are closed.
        offset: position of the first query, as in :func:`causal`.
        device: where the mask is made.

    Returns:
        Boolean mask of shape ``(T, S)``.

    Raises:
        ValueError: if a length or ``sinks`` is negative, or ``width`` is below 1.
    """
    S = T if S is None else S
    _check_lengths(T, S)
    if width < 1:
        raise ValueError(f"a window needs a width of at least 1, got {width}")
    if sinks < 0:
        raise ValueError(f"the number of sinks cannot be negative, got {sinks}")
    query = torch.arange(T, device=device)[:, None] + offset
    key = torch.arange(S, device=device)
    distance = query - key  # T S, positive where the key lies in the past
    near = (distance.abs() < width) | (key < sinks)
    return near & (distance >= 0) if causal else near


def check(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a mask that is not boolean or does not broadcast to ``shape``.

    Raises:
        ValueError: naming the dtype or both shapes.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be boolean (True = may attend), got {mask.dtype}")
    if not broadcasts(mask.shape, shape):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not broadcast to the scores' {tuple(shape)}"
        )


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether one shape broadcasts to the other, which stays as it is."""
    try:
        return torch.broadcast_shapes(shape, to) == torch.Size(to)
    except RuntimeError:
        return False


def _check_lengths(T: int, S: int) -> None:
    if T < 0 or S < 0:
        raise ValueError(f"lengths cannot be negative, got T = {T} and S = {S}")

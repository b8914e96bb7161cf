"""Scaled dot-product attention, as the equation says it: the definition every other way is held to.

    Attention(Q, K, V) = softmax(Q Kᵀ · scale) V        (Vaswani et al. 2017, eq. 1)

The whole ``T × S`` matrix of weights is in memory, so time and memory grow with ``T · S``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend to a key; broadcastable to ``(*batch, T, S)``.
        causal: also close every key after its query (:func:`lookback.masks.causal`).
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.

    Returns:
        One weighted sum of values a query. A query with nothing to attend to gets zeros, and
        sends zero gradient everywhere.

    Raises:
        ValueError: if shapes do not fit together, the width is 0, dtypes differ or are not
            floating point, or the mask is not boolean or does not broadcast.
    """
    check_inputs(q, k, v)
    return weights(q, k, mask, causal=causal, offset=offset, scale=scale) @ v


def weights(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
) -> Float[Tensor, "*batch T S"]:
    """Attention weights ``softmax(Q Kᵀ · scale)``: each row sums to 1, or is empty and all zero.

    Args, Raises: as :func:`attention`.
    """
    check_inputs(q, k)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q * scale) @ k.mT  # *batch T S
    mask = combine(mask, causal, offset, scores)
    return scores.softmax(-1) if mask is None else masked_softmax(scores, mask)


def masked_softmax(
    scores: Float[Tensor, "*batch T S"], mask: Bool[Tensor, "..."]
) -> Float[Tensor, "*batch T S"]:
    """Softmax over the open scores of each row; a row with none is zero, and so is its gradient."""
    empty = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask, float("-inf"))
    # softmax of a row of -inf is NaN, forward and backward: give it any finite row, then erase it
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def combine(
    mask: Bool[Tensor, "..."] | None, causal: bool, offset: int, scores: Float[Tensor, "*batch T S"]
) -> Bool[Tensor, "..."] | None:
    """``mask`` and, where ``causal`` is set, the causal mask; None where nothing is closed."""
    if mask is not None:
        masks.check(mask, tuple(scores.shape))
    if not causal:
        return mask
    past = masks.causal(scores.shape[-2], scores.shape[-1], offset=offset, device=scores.device)
    return past if mask is None else mask & past


def part(
    mask: Bool[Tensor, "..."], rows: slice | Tensor, columns: slice | Tensor
) -> Bool[Tensor, "..."]:
    """The entries of a mask for some queries and keys; an axis of length 1 serves them all."""
    if mask.ndim and mask.shape[-1] > 1:
        mask = mask[..., columns]
    if mask.ndim > 1 and mask.shape[-2] > 1:
        mask = mask[..., rows, :]
    return mask


def sum_dtype(x: Float[Tensor, "..."]) -> torch.dtype:
    """The dtype to run long sums in: float32 at least, so that narrower inputs lose nothing."""
    return torch.promote_types(x.dtype, torch.float32)


def without_autocast(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let autocast change no dtype inside: long sums run in the one that was chosen for them."""

    @wraps(attention)
    def run(q: Tensor, *args, **options) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            return attention(q, *args, **options)

    return run


def autocast(*inputs: Tensor) -> tuple[Tensor, ...]:
    """The inputs in autocast's dtype where it is on, as torch's own products take theirs."""
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device) or any(x.dtype == torch.float64 for x in inputs):
        return inputs
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in inputs)


def check_inputs(q: Tensor, k: Tensor, v: Tensor | None = None) -> None:
    """Refuse queries, keys and values that do not fit together.

    Raises:
        ValueError: naming the shapes or dtypes that disagree.
    """
    named = {"q": q, "k": k} | ({} if v is None else {"v": v})
    for name, x in named.items():
        if not x.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {x.dtype}")
        if x.ndim < 2:
            raise ValueError(f"{name} needs at least 2 axes (length, width), got {tuple(x.shape)}")
        if x.dtype != q.dtype:
            raise ValueError(f"q is {q.dtype} but {name} is {x.dtype}; give both one dtype")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"queries have width {q.shape[-1]} but keys have width {k.shape[-1]}")
    if not q.shape[-1]:
        raise ValueError("queries and keys have width 0: nothing tells one key from another")
    if v is not None and k.shape[-2] != v.shape[-2]:
        raise ValueError(f"there are {k.shape[-2]} keys but {v.shape[-2]} values")
    if any(x.shape[:-2] != q.shape[:-2] for x in named.values()):
        shapes = ", ".join(f"{name} {tuple(x.shape[:-2])}" for name, x in named.items())
        raise ValueError(f"the batch axes differ (expand them first): {shapes}")

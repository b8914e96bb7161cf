"""Scaled dot-product attention, and the cutting of a width into heads.

``scaled_dot_product_attention`` chooses, by name, among ways that compute the same thing;
the definition is :mod:`lookback.efficient.reference`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks
from lookback.efficient import reference, tiled

# Exact ways by name. Those with options of their own (a window, a layout) come as functions:
# functools.partial(window.attention, width=64).
KERNELS = ("reference", "sdpa", "tiled", "triton")
Kernel = str | Callable[..., Tensor]


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    bias: Float[Tensor, "..."] | None = None,
    kernel: Kernel = "reference",
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1): softmax(Q Kᵀ / √K) V.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend to a key; broadcastable to ``(*batch, T, S)``.
        causal: also close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.
        bias: added to the scaled scores, as :func:`lookback.positions.alibi` gives it;
            broadcastable to ``(*batch, T, S)``.
        kernel: ``"reference"`` (the equation, line by line), ``"sdpa"`` (torch's fused kernels),
            ``"tiled"``, ``"triton"`` (the GPU kernel, and ``"tiled"`` for inputs it cannot serve:
            :func:`lookback.efficient.flash_triton.refusal`), or a function with the arguments of
            :func:`lookback.efficient.reference.attention`.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: if shapes do not fit, dtypes differ or are not floating point, the mask is not
            boolean or does not broadcast, or the kernel is unknown or takes no bias.
    """
    check_kernel(kernel, biased=bias is not None)
    if kernel == "sdpa":
        return _sdpa(q, k, v, mask, causal=causal, offset=offset, scale=scale, bias=bias)
    if bias is not None:
        reference.check_inputs(q, k, v)
        weights = attention_weights(
            q, k, mask, causal=causal, offset=offset, scale=scale, bias=bias
        )
        return weights @ v
    if isinstance(kernel, str):
        kernel = _by_name(kernel, q, k, v, mask)
    return kernel(q, k, v, mask, causal=causal, offset=offset, scale=scale)


def attention_weights(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "*batch T S"]:
    """The weights alone, softmax(Q Kᵀ / √K): what each query looks at.

    Args, Raises: as :func:`scaled_dot_product_attention`.

    Returns:
        Weights whose rows sum to 1; an empty row is zero.
    """
    if bias is None:
        return reference.weights(q, k, mask, causal=causal, offset=offset, scale=scale)
    reference.check_inputs(q, k)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q * scale) @ k.mT
    scores = scores + checked_bias(bias, q, k.shape[-2])  # *batch T S
    mask = reference.combine(mask, causal, offset, scores)
    return scores.softmax(-1) if mask is None else reference.masked_softmax(scores, mask)


def check_kernel(kernel: Kernel, *, biased: bool = False) -> None:
    """Refuse a kernel that does not exist, or one that takes no bias where there is one.

    Raises:
        ValueError: listing the names.
    """
    if isinstance(kernel, str) and kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; choose one of {', '.join(KERNELS)}")
    if biased and kernel not in ("reference", "sdpa"):
        raise ValueError(f"kernel {kernel!r} takes no bias on scores; use reference or sdpa")


def split_heads(x: Float[Tensor, "*batch T D"], H: int) -> Float[Tensor, "*batch {H} T D/{H}"]:
    """Cut the width into ``H`` heads, each with ``D / H`` neighbouring features.

    Raises:
        ValueError: if ``x`` has fewer than 2 axes, or its width is not divisible by ``H``.
    """
    if x.ndim < 2:
        raise ValueError(f"heads to split need 2 axes (T, D) or more, got {tuple(x.shape)}")
    D = x.shape[-1]
    if H < 1 or D % H:
        raise ValueError(f"width {D} is not divisible by {H} heads")
    return x.unflatten(-1, (H, D // H)).transpose(-2, -3)  # *batch T H D/H -> *batch H T D/H


def merge_heads(x: Float[Tensor, "*batch H T K"]) -> Float[Tensor, "*batch T H*K"]:
    """Undo :func:`split_heads`: each token's heads side by side again.

    Raises:
        ValueError: if ``x`` has fewer than 3 axes.
    """
    if x.ndim < 3:
        raise ValueError(f"heads to merge need 3 axes (H, T, K) or more, got {tuple(x.shape)}")
    return x.transpose(-2, -3).flatten(-2)  # *batch H T K -> *batch T H K -> *batch T H·K


def _by_name(kernel, q, k, v, mask) -> Callable[..., Tensor]:
    if kernel == "triton":
        from lookback.efficient import flash_triton  # loads Triton, where it is installed

        if flash_triton.refusal(q, k, v, mask) is None:
            return flash_triton.attention
    return reference.attention if kernel == "reference" else tiled.attention


def shared_sdpa(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    bias: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "B H T V"]:
    """Torch's fused kernels where ``H / G`` query heads share a head of keys, which they read as it
    is instead of a copy for each (:mod:`lookback.efficient.grouped`).

    Args, Raises: as :func:`scaled_dot_product_attention`.
    """
    reference.check_inputs(q[:, :: q.shape[1] // k.shape[1]], k, v)
    return _fused(q, k, v, mask, causal, 0, None, bias, enable_gqa=True)


def _sdpa(q, k, v, mask, *, causal, offset, scale, bias):
    reference.check_inputs(q, k, v)
    return _fused(q, k, v, mask, causal, offset, scale, bias)


def _fused(q, k, v, mask, causal, offset, scale, bias, enable_gqa=False):
    options = {"scale": scale, "enable_gqa": enable_gqa}
    if mask is None and bias is None and causal and offset == 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)
    T, S = q.shape[-2], k.shape[-2]
    scores = q.new_empty(()).expand(*q.shape[:-2], T, S)  # a shape without its memory
    mask = reference.combine(mask, causal, offset, scores)
    if bias is not None:
        bias = checked_bias(bias, q, S)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    if mask is not None:
        mask = torch.atleast_2d(mask)  # torch's kernels look for an axis of queries
    return F.scaled_dot_product_attention(q, k, v, mask, **options)


def checked_bias(
    bias: Float[Tensor, "..."], q: Float[Tensor, "*batch T K"], S: int
) -> Float[Tensor, "..."]:
    """The bias on the scores of ``q`` to ``S`` keys; under autocast, in the dtype of ``q``.

    Raises:
        ValueError: if it has another dtype than ``q``, or does not broadcast to the scores.
    """
    shape = (*q.shape[:-1], S)
    if torch.is_autocast_enabled(q.device.type):
        bias = bias.to(q.dtype)
    if bias.dtype != q.dtype:
        raise ValueError(f"the bias is {bias.dtype} but the queries are {q.dtype}")
    if not masks.broadcasts(bias.shape, shape):
        raise ValueError(f"a bias of shape {tuple(bias.shape)} does not broadcast to {shape}")
    return bias

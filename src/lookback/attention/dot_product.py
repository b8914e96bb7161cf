"""Scaled dot-product attention, and the cutting of a width into heads.

``scaled_dot_product_attention`` chooses, by name, among ways that compute the same thing;
the definition is :mod:`lookback.efficient.reference`.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import reference

KERNELS = ("reference", "sdpa")


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    kernel: str = "reference",
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
        kernel: ``"reference"`` (the equation, line by line) or ``"sdpa"`` (torch's fused kernels).

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: if shapes do not fit, dtypes differ or are not floating point, the mask is not
            boolean or does not broadcast, or the kernel is unknown.
    """
    if kernel == "reference":
        return reference.attention(q, k, v, mask, causal=causal, offset=offset, scale=scale)
    if kernel == "sdpa":
        return _sdpa(q, k, v, mask, causal=causal, offset=offset, scale=scale)
    raise ValueError(f"unknown kernel {kernel!r}; choose one of {', '.join(KERNELS)}")


def attention_weights(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
) -> Float[Tensor, "*batch T S"]:
    """The weights alone, softmax(Q Kᵀ / √K): what each query looks at.

    Args, Raises: as :func:`scaled_dot_product_attention`.

    Returns:
        Weights whose rows sum to 1; an empty row is zero.
    """
    return reference.weights(q, k, mask, causal=causal, offset=offset, scale=scale)


def split_heads(x: Float[Tensor, "*batch T D"], H: int) -> Float[Tensor, "*batch {H} T D/{H}"]:
    """Cut the width into ``H`` heads, each with ``D / H`` neighbouring features.

    Raises:
        ValueError: if the width is not divisible by ``H``.
    """
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


def _sdpa(q, k, v, mask, *, causal, offset, scale):
    reference.check_inputs(q, k, v)
    if mask is None and causal and offset == 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    T, S = q.shape[-2], k.shape[-2]
    scores = q.new_empty(()).expand(*q.shape[:-2], T, S)  # a shape without its memory
    mask = reference.combine(mask, causal, offset, scores)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)

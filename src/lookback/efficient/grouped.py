"""Query heads that share keys and values: grouped (Ainslie et al. 2023) and multi-query heads.

With ``H`` query heads and ``G`` key–value heads, query heads ``g · H/G … (g + 1) · H/G − 1`` share
head ``g``. A cache holds ``G`` heads instead of ``H``. ``G = H`` is multi-head attention (Vaswani
et al. 2017), ``G = 1`` multi-query attention (Shazeer 2019).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import reference


def attention(
    q: Float[Tensor, "*batch H T K"],
    k: Float[Tensor, "*batch G S K"],
    v: Float[Tensor, "*batch G S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
) -> Float[Tensor, "*batch H T V"]:
    """Scaled dot-product attention of ``H`` query heads to ``G`` heads of keys and values.

    Equal to :func:`lookback.efficient.reference.attention` with :func:`repeat_heads`, but no key
    or value is copied: the queries of a group are laid end to end and share one matrix product.

    Args:
        q: queries.
        k: keys; ``G`` divides ``H``.
        v: values.
        mask: True where a query may attend; broadcastable to ``(*batch, H, T, S)``.
        causal: also close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, or if ``G`` does not divide
            ``H``.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim < 3:
            raise ValueError(f"{name} needs 3 axes (heads, length, width), got {tuple(x.shape)}")
    H, T = q.shape[-3:-1]
    share = _share(H, k.shape[-3])
    grouped = q.unflatten(-3, (-1, share)).flatten(-3, -2)  # *batch G H/G·T K
    reference.check_inputs(grouped, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (grouped * scale) @ k.mT  # *batch G H/G·T S
    scores = scores.unflatten(-2, (share, T)).flatten(-4, -3)  # *batch H T S
    mask = reference.combine(mask, causal, offset, scores)
    weights = scores.softmax(-1) if mask is None else reference.masked_softmax(scores, mask)
    out = weights.unflatten(-3, (-1, share)).flatten(-3, -2) @ v  # *batch G H/G·T V
    return out.unflatten(-2, (share, T)).flatten(-4, -3)


def repeat_heads(x: Float[Tensor, "*batch G S K"], H: int) -> Float[Tensor, "*batch {H} S K"]:
    """Each head of keys or values ``H/G`` times in a row, for a kernel that wants ``H`` of them.

    Raises:
        ValueError: if there is no axis of heads, or ``G`` does not divide ``H``.
    """
    if x.ndim < 3:
        raise ValueError(f"x needs 3 axes (heads, length, width), got {tuple(x.shape)}")
    return x.repeat_interleave(_share(H, x.shape[-3]), -3)


def _share(H: int, G: int) -> int:
    if H < 1 or G < 1 or H % G:
        raise ValueError(f"{H} query heads cannot share {G} heads of keys and values equally")
    return H // G

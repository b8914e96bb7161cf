"""Keys and values that every head reads from one narrow latent (DeepSeek-AI 2024, section 2.1.2).

Multi-head latent attention stores ``R`` numbers a token, whatever the number of heads, and expands
them by each head's own matrices:

    c_t = W_down x_t          k_{t,h} = W_k,h c_t          v_{t,h} = W_v,h c_t

The expansion need never be carried out: ``q·(W_k c) = (W_kᵀ q)·c`` moves ``W_k`` to the query, and
``Σ w_j W_v c_j = W_v Σ w_j c_j`` moves ``W_v`` behind the sum. The published layer adds a second,
rotary score beside this one, because a rotation between ``W_k`` and the query would stand in the
way; :func:`attention` is the part without positions.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import grouped, reference


def attention(
    q: Float[Tensor, "*batch H T K"],
    latent: Float[Tensor, "*batch S R"],
    W_k: Float[Tensor, "H K R"],
    W_v: Float[Tensor, "H V R"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    absorbed: bool = True,
) -> Float[Tensor, "*batch H T V"]:
    """Scaled dot-product attention to keys and values that are read from a shared latent.

    Args:
        q: queries.
        latent: what a cache holds for each token, shared by the heads.
        W_k: each head's map from the latent to its keys.
        W_v: each head's map from the latent to its values.
        mask: True where a query may attend; broadcastable to ``(*batch, H, T, S)``.
        causal: also close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.
        absorbed: never form keys and values, which is cheaper for few queries and many keys;
            off, they are expanded first. The same result.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, or if the matrices do not
            fit queries and latent.
    """
    q, latent, W_k, W_v = reference.autocast(q, latent, W_k, W_v)
    _check(q, latent, W_k, W_v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    options = {"causal": causal, "offset": offset, "scale": scale}
    if not absorbed:
        k, v = expand(latent, W_k), expand(latent, W_v)
        return reference.attention(q, k, v, mask, **options)
    shared = latent.unsqueeze(-3)  # *batch 1 S R: one head, which is key and value in one
    mixed = grouped.attention(q @ W_k, shared, shared, mask, **options)  # *batch H T R
    return mixed @ W_v.mT


def expand(
    latent: Float[Tensor, "*batch S R"], W: Float[Tensor, "H K R"]
) -> Float[Tensor, "*batch H S K"]:
    """The keys, or the values, of every head.

    Raises:
        ValueError: if the widths or dtypes differ or axes are missing.
    """
    latent, W = reference.autocast(latent, W)
    if latent.ndim < 2 or W.ndim != 3:
        shapes = f"{tuple(latent.shape)} and {tuple(W.shape)}"
        raise ValueError(f"need a latent (…, S, R) and matrices (H, K, R), got {shapes}")
    if latent.shape[-1] != W.shape[-1]:
        raise ValueError(f"the latent has width {latent.shape[-1]}, the matrices {W.shape[-1]}")
    if not latent.is_floating_point() or W.dtype != latent.dtype:
        raise ValueError(
            f"latent and matrices need one floating point dtype, got {latent.dtype} and {W.dtype}"
        )
    return latent.unsqueeze(-3) @ W.mT


def _check(q: Tensor, latent: Tensor, W_k: Tensor, W_v: Tensor) -> None:
    if q.ndim < 3 or latent.ndim < 2:
        shapes = f"{tuple(q.shape)} and {tuple(latent.shape)}"
        raise ValueError(f"need queries (…, H, T, K) and a latent (…, S, R), got {shapes}")
    H, K, R = q.shape[-3], q.shape[-1], latent.shape[-1]
    if not K:
        raise ValueError("queries and keys have width 0: nothing tells one key from another")
    if tuple(W_k.shape) != (H, K, R):
        raise ValueError(f"W_k must be {(H, K, R)} (heads, width, latent), got {tuple(W_k.shape)}")
    if W_v.ndim != 3 or (W_v.shape[0], W_v.shape[2]) != (H, R):
        raise ValueError(f"W_v must be ({H}, V, {R}) (heads, width, latent): {tuple(W_v.shape)}")
    for name, x in (("latent", latent), ("W_k", W_k), ("W_v", W_v)):
        if x.dtype != q.dtype:
            raise ValueError(f"q is {q.dtype} but {name} is {x.dtype}; give both one dtype")
    if q.shape[:-3] != latent.shape[:-2]:
        shapes = f"q {tuple(q.shape[:-3])}, latent {tuple(latent.shape[:-2])}"
        raise ValueError(f"the batch axes differ (expand them first): {shapes}")

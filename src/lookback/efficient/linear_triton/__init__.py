"""Chunked linear attention as GPU kernels in Triton: the state stays on the chip.

The trick: a chunk's matrix of weights and the state of a head live in registers, and the only thing
that travels from chunk to chunk through memory is the state itself, once written and once read.
Feature map, decay and normalisation happen on the way (Yang et al. 2024, section 4; Sun et al.
2023). Plain torch writes each of these to memory: features, weights, faded copies, a state for
every chunk.

The function is that of :mod:`lookback.efficient.linear`, up to rounding. The forward pass runs in
the kernels; the backward pass is plain torch, three linear attentions
(:mod:`~lookback.efficient.linear_triton.op`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import linear, reference
from lookback.efficient.flash_triton import INSTALLED, no_device

if INSTALLED:
    from lookback.efficient.linear_triton import op

DTYPES = (torch.float32, torch.bfloat16)
WIDEST = 128
CHUNKS = (16, 32, 64, 128)


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    features: str | Callable[[Tensor], Tensor] = "elu",
    decay: float | Float[Tensor, "..."] | None = None,
    normalise: bool = True,
    chunk: int = 64,
) -> Float[Tensor, "*batch T V"]:
    """Causal linear attention in chunks (Katharopoulos et al. 2020, eq. 9), in GPU kernels.

    Without ``causal`` there are no chunks, only two matrix products:
    :func:`lookback.efficient.linear.attention` computes them.

    Args:
        q: queries, in float32 or bfloat16; at most 128 features. The range of float16 is too short
            for sums over a sequence.
        k: keys.
        v: values, of any width.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``.
        causal: close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the queries before the features; 1 when left out.
        features: φ, by name (:func:`lookback.efficient.linear.feature_map`) or as a function, which
            is then applied outside of the kernels.
        decay: share of the state kept at each token, as in
            :func:`lookback.efficient.linear.attention`.
        normalise: whether to divide by the summed products.
        chunk: tokens in a chunk: 16, 32, 64 or 128.

    Returns:
        One weighted sum of values a query; zeros where the weights sum to 0.

    Raises:
        ValueError: as :func:`lookback.efficient.linear.attention`, or, with what is supported,
            where :func:`refusal` names a reason.
    """
    reference.check_inputs(q, k, v)
    if not causal:
        options = {"features": features, "normalise": normalise, "chunk": chunk, "decay": decay}
        return linear.attention(q, k, v, mask, offset=offset, scale=scale, **options)
    keys = k.new_empty(*k.shape[:-1], 0, dtype=reference.sum_dtype(k))  # shape and dtype only
    log_decay = linear.token_log_decay(decay, keys, causal, q.shape[-2] + offset)
    if callable(features):
        q, k = features(q if scale is None else q * scale), features(k)
        features, scale = "identity", None
    linear.feature_map(features)  # refuses an unknown name
    reason = refusal(q, v, chunk)
    if reason is not None:
        raise ValueError(reason)
    batch, S = k.shape[:-2], k.shape[-2]
    if mask is not None:
        mask = linear.key_mask(mask, k)[..., 0].expand(*batch, S)
        mask = _axes(mask, 3).contiguous()
    if log_decay is not None:
        log_decay = _axes(log_decay.expand(*batch, S).float(), 3)
    out, _ = op.linear_attention(
        *(_axes(x, 4) for x in (q, k, v)),
        *(mask, log_decay, offset, 1.0 if scale is None else float(scale)),
        *(features, normalise, chunk),
    )
    return out.reshape(*batch, *out.shape[-2:])


def refusal(q: Tensor, v: Tensor, chunk: int = 64) -> str | None:
    """Why the kernels cannot serve these features and values; None where they can."""
    plain = "; lookback.efficient.linear computes the same anywhere"
    reason = no_device(q)
    if reason is not None:
        return reason + plain
    if q.dtype not in DTYPES or v.dtype != q.dtype:
        return f"the kernels take float32 and bfloat16, got {q.dtype}{plain}"
    if not 1 <= q.shape[-1] <= WIDEST or not v.shape[-1]:
        return (
            f"the kernels take 1 to {WIDEST} features and values, got {q.shape[-1]} and "
            f"{v.shape[-1]}{plain}"
        )
    if chunk not in CHUNKS:
        return f"the kernels take chunks of {', '.join(map(str, CHUNKS))} tokens, got {chunk}"
    return None


def _axes(x: Tensor, count: int) -> Tensor:
    """``(*batch, H, …)`` with ``count`` axes: missing ones of length 1, further ones joined."""
    while x.ndim < count:
        x = x.unsqueeze(0)
    return x.flatten(0, -count)

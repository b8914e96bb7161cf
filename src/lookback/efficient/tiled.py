"""Exact attention in tiles: memory grows with ``T + S``, never with ``T · S``.

The softmax of a row is built up tile by tile (Milakov & Gimelshein 2018, algorithm 3). What is
kept for a row is its maximum ``m``, the sum ``l`` of ``exp(score − m)`` and the weighted sum ``o``
of values; when a new tile raises the maximum, the two sums are scaled down to it:

    m′ = max(m, max_j s_j)
    l′ = e^(m − m′) l + Σ_j e^(s_j − m′)
    o′ = e^(m − m′) o + Σ_j e^(s_j − m′) v_j

The backward pass computes the weights again from the saved log-sum-exp ``L = m + log l``, as
``P = exp(S − L)``, instead of keeping them (Dao et al. 2022, algorithm 4):

    dV = Pᵀ dO        dP = dO Vᵀ        dS = P ∘ (dP − D),  D = rowsum(dO ∘ O)
    dQ = dS K · scale        dK = dSᵀ Q · scale
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function

from lookback import masks
from lookback.efficient import reference

TILE = 256


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    tile: int = TILE,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention, tile by tile (Dao et al. 2022): exact, in linear memory.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend; broadcastable to ``(*batch, T, S)``. It is read one
            tile at a time and never spread out, so a padding mask ``(*batch, 1, S)`` stays small.
        causal: also close every key after its query; tiles wholly in the future are skipped.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.
        tile: queries, and keys, in one tile; at least 1.

    Returns:
        One weighted sum of values a query, in the dtype of ``q``; sums run in float32 for the
        narrower dtypes. A query with nothing to attend to gets zeros and sends zero gradient.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, or if ``tile`` is below 1.
        RuntimeError: on asking for a second derivative, which recomputation does not give.
    """
    reference.check_inputs(q, k, v)
    if tile < 1:
        raise ValueError(f"a tile needs at least 1 query and key, got {tile}")
    if mask is not None:
        masks.check(mask, (*q.shape[:-1], k.shape[-2]))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _Tiled.apply(q, k, v, mask, causal, offset, scale, tile)[0]


def forward(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None,
    *,
    causal: bool,
    offset: int,
    scale: float,
    tile: int = TILE,
) -> tuple[Float[Tensor, "*batch T V"], Float[Tensor, "*batch T"]]:
    """Output and log-sum-exp of the scores of each row, both in the dtype that sums run in.

    The log-sum-exp of an empty row is ``-inf``. Nothing is differentiable; inputs are trusted.
    """
    T, S = q.shape[-2], k.shape[-2]
    dtype = reference.sum_dtype(q)
    out = q.new_zeros(*q.shape[:-1], v.shape[-1], dtype=dtype)  # *batch T V
    total = q.new_full(q.shape[:-1], float("-inf"), dtype=dtype)  # *batch T
    # one conversion a tile of queries, and S / tile times as many tiles of keys: convert those once
    k, v = k.to(dtype), v.to(dtype)
    for rows in _tiles(T, tile):
        q_i = q[..., rows, :].to(dtype) * scale
        m = mass = o = None
        for columns in _tiles(_reach(rows, S, causal, offset), tile):
            s = q_i @ k[..., columns, :].mT  # *batch t s
            _close(s, mask, rows, columns, causal, offset)
            peak = s.amax(-1, keepdim=True)
            highest = peak if m is None else torch.maximum(m, peak)
            # a row that is empty so far has no maximum: any finite number serves
            shift = highest.masked_fill(highest == float("-inf"), 0.0)
            p = s.sub_(shift).exp_()
            if m is None:
                mass, o = p.sum(-1, keepdim=True), p @ v[..., columns, :]
            else:
                fade = (m - shift).exp_()
                mass = mass.mul_(fade).add_(p.sum(-1, keepdim=True))
                o = o.mul_(fade).add_(p @ v[..., columns, :])
            m = highest
        if m is not None:
            out[..., rows, :] = o.div_(mass.masked_fill(mass == 0, 1.0))
            total[..., rows] = (m + mass.log_()).squeeze(-1)
    return out, total


def online_softmax(
    m: Float[Tensor, "*batch T 1"],
    mass: Float[Tensor, "*batch T 1"],
    o: Float[Tensor, "*batch T V"],
    s: Float[Tensor, "*batch T n"],
    v: Float[Tensor, "*batch n V"],
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the sums above, written plainly; :func:`forward` takes the same steps in place.

    Args:
        m: largest score of each row so far; ``-inf`` where there was none.
        mass: sum of ``exp(score − m)`` so far.
        o: sum of ``exp(score − m) · value`` so far.
        s: scores of the next tile; ``-inf`` where closed.
        v: its values.

    Returns:
        The new ``m``, ``mass`` and ``o``; at the end the output is ``o / mass``.
    """
    highest = torch.maximum(m, s.amax(-1, keepdim=True))
    shift = highest.masked_fill(highest == float("-inf"), 0.0)
    fade, p = (m - shift).exp(), (s - shift).exp()
    return highest, fade * mass + p.sum(-1, keepdim=True), fade * o + p @ v


def backward(
    grad: Float[Tensor, "*batch T V"],
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    total: Float[Tensor, "*batch T"],
    D: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "..."] | None,
    *,
    causal: bool,
    offset: int,
    scale: float,
    tile: int = TILE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``q``, ``k`` and ``v``, in the dtype that sums run in.

    Args:
        grad: gradient of the output.
        q: queries.
        k: keys.
        v: values.
        total: log-sum-exp of each row over every key there is, not only over ``k``.
        D: ``rowsum(dO ∘ O)`` of each row.
        mask, causal, offset, scale, tile: as in the forward pass.
    """
    T, S = q.shape[-2], k.shape[-2]
    dtype = reference.sum_dtype(q)
    dq, dk, dv = (torch.zeros_like(x, dtype=dtype) for x in (q, k, v))
    k, v = k.to(dtype), v.to(dtype)
    # an empty row has L = -inf and only scores of -inf: at +inf their weights exp(-inf) are zero
    total = total.masked_fill(total == float("-inf"), float("inf"))
    for rows in _tiles(T, tile):
        q_i, g_i = q[..., rows, :].to(dtype) * scale, grad[..., rows, :].to(dtype)
        L_i, D_i = total[..., rows, None], D[..., rows, None].to(dtype)
        for columns in _tiles(_reach(rows, S, causal, offset), tile):
            k_j, v_j = k[..., columns, :], v[..., columns, :]
            s = q_i @ k_j.mT  # *batch t s
            _close(s, mask, rows, columns, causal, offset)
            p = s.sub_(L_i).exp_()
            dv[..., columns, :] += p.mT @ g_i
            ds = (g_i @ v_j.mT).sub_(D_i).mul_(p)
            dq[..., rows, :] += ds @ k_j
            dk[..., columns, :] += ds.mT @ q_i  # q_i carries the scale already
        dq[..., rows, :] *= scale
    return dq, dk, dv


class _Tiled(Function):
    @staticmethod
    def forward(q, k, v, mask, causal, offset, scale, tile):
        with torch.autocast(q.device.type, enabled=False):  # sums stay in the dtype chosen for them
            out, total = forward(
                q, k, v, mask, causal=causal, offset=offset, scale=scale, tile=tile
            )
        return out.to(q.dtype), total

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, v, mask, *ctx.options = inputs
        out, total = output
        ctx.mark_non_differentiable(total)
        ctx.save_for_backward(q, k, v, mask, out, total)

    @staticmethod
    def backward(ctx, grad, _):
        gradients = _TiledBackward.apply(grad, *ctx.saved_tensors, *ctx.options)
        return *gradients, None, None, None, None, None


class _TiledBackward(Function):
    @staticmethod
    def forward(grad, q, k, v, mask, out, total, causal, offset, scale, tile):
        with torch.autocast(q.device.type, enabled=False):
            D = (grad.to(total.dtype) * out).sum(-1)  # *batch T
            gradients = backward(
                *(grad, q, k, v, total, D, mask),
                **{"causal": causal, "offset": offset, "scale": scale, "tile": tile},
            )
        return tuple(g.to(q.dtype) for g in gradients)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "tiled attention has no second derivative: its weights are computed again in the "
            "backward pass and not kept; use lookback.efficient.reference.attention"
        )


def _tiles(length: int, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, length)) for start in range(0, length, tile))


def _reach(rows: slice, S: int, causal: bool, offset: int) -> int:
    """How many of the keys, from the first, any query of this tile may see."""
    return max(0, min(S, rows.stop + offset)) if causal else S


def _close(
    s: Tensor, mask: Tensor | None, rows: slice, columns: slice, causal: bool, offset: int
) -> None:
    """Set the closed scores of one tile to ``-inf``, in place."""
    if mask is not None:
        s.masked_fill_(~reference.part(mask, rows, columns), float("-inf"))
    if causal and columns.stop > rows.start + offset + 1:  # the diagonal crosses this tile
        T, S = s.shape[-2:]
        past = masks.causal(T, S, offset=rows.start + offset - columns.start, device=s.device)
        s.masked_fill_(~past, float("-inf"))

"""Attention to a neighbourhood, at a cost of ``T · width`` (Beltagy et al. 2020, section 3.1).

Queries are cut into blocks. The keys that a block can reach lie side by side, so they are one slice
and the scores of a block one small matrix, which stays in the processor's cache until its softmax
is done. Neither the ``T × S`` scores nor a ``T × S`` mask is ever formed.

What it loses against full attention: let ``m`` be the share of a full softmax that falls inside the
window. The weights inside are the full ones divided by ``m``, so the output moves by at most
``2 (1 − m) · max_j ‖v_j‖``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks
from lookback.efficient import reference


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    width: int,
    sinks: int = 0,
    dilation: int = 1,
    block: int | None = None,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention under :func:`lookback.masks.window`, without the mask.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend; broadcastable to ``(*batch, T, S)``. With dilation,
            one row for all queries (a padding mask).
        causal: whether keys after the query are closed.
        offset: position of the first query.
        scale: factor on the scores; ``1/√K`` when left out.
        width: keys within reach on one side, the query's own position counted; at least 1.
        sinks: keys at the start that stay open (Xiao et al. 2023, section 3.2).
        dilation: distance between neighbouring keys of a window, so that it reaches
            ``(width − 1) · dilation`` positions far; keys between them are closed.
        block: queries worked on together; chosen by the width when left out. It changes the cost,
            not the result.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, or if ``width``,
            ``dilation`` or ``block`` is below 1, ``sinks`` negative, or dilation meets sinks or a
            mask with a row for each query.
    """
    reference.check_inputs(q, k, v)
    if mask is not None:
        masks.check(mask, (*q.shape[:-1], k.shape[-2]))
    if width < 1 or dilation < 1:
        raise ValueError(f"need width ≥ 1 and dilation ≥ 1, got {width} and {dilation}")
    if sinks < 0:
        raise ValueError(f"the number of sinks cannot be negative, got {sinks}")
    if block is not None and block < 1:
        raise ValueError(f"a block needs at least 1 query, got {block}")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    block = min(max(64, width // 2), 128) if block is None else block
    if dilation > 1:
        if sinks:
            raise ValueError(f"a window with dilation {dilation} takes no sinks, got {sinks}")
        return _dilated(q * scale, k, v, mask, causal, offset, width, dilation, block)
    return _banded(q * scale, k, v, mask, causal, offset, width, sinks, block)


def _banded(q, k, v, mask, causal, offset, width, sinks, block):
    T, S = q.shape[-2], k.shape[-2]
    width, sinks = min(width, S + T + abs(offset)), min(sinks, S)  # beyond these nothing changes
    behind, ahead = width - 1, 0 if causal else width - 1
    band = _band(block, behind, ahead, q.device)
    # cut once: the backward pass joins the pieces' gradients once, where a slice for each block
    # would spread every one of them over the whole length; without gradients a slice copies nothing
    kept = torch.is_grad_enabled() and (k.requires_grad or v.requires_grad)
    k_blocks, v_blocks = k.split(block, -2), v.split(block, -2)
    k_sinks, v_sinks = k[..., :sinks, :], v[..., :sinks, :]
    # a query that stands on a key sees that key
    never_empty = mask is None and offset >= 0 and offset + T <= S
    out = []
    for i, q_i in enumerate(q.split(block, -2)):
        rows = slice(i * block, i * block + q_i.shape[-2])
        first = rows.start + offset - behind
        near = _covering(first, rows.stop + offset + ahead, S, block)
        low, high = near.start * block, min(near.stop * block, S)
        columns = slice(low, high)
        open_ = band[: rows.stop - rows.start, low - first + block : high - first + block]
        if kept:
            k_i, v_i = _join(k_blocks[near], k), _join(v_blocks[near], v)
        else:
            k_i, v_i = k[..., low:high, :], v[..., low:high, :]
        if sinks:
            columns, open_ = _with_sinks(columns, rows, offset, width, sinks, causal, q.device)
            k_i = torch.cat([k_sinks[..., :low, :], k_i, k_sinks[..., high:, :]], -2)
            v_i = torch.cat([v_sinks[..., :low, :], v_i, v_sinks[..., high:, :]], -2)
        if mask is not None:
            open_ = open_ & reference.part(mask, rows, columns)
        scores = q_i @ k_i.mT  # *batch b columns
        if never_empty:
            weights = scores.masked_fill_(~open_, float("-inf")).softmax(-1)
        else:
            weights = reference.masked_softmax(scores, open_)
        out.append(weights @ v_i)
    return torch.cat(out, -2)


def _band(block: int, behind: int, ahead: int, device: torch.device) -> Tensor:
    """Which columns each row of any block may see, from ``block`` before the first that one can."""
    row = torch.arange(block, device=device)[:, None]
    column = torch.arange(-block, behind + 2 * block + ahead, device=device)
    return (column >= row) & (column <= row + behind + ahead)


def _covering(first: int, last: int, S: int, block: int) -> slice:
    """The blocks of keys that hold positions ``first … last - 1``, none if none does."""
    if first >= S or last <= 0:
        return slice(0, 0)
    return slice(max(first, 0) // block, -(-min(last, S) // block))


def _join(pieces: tuple[Tensor, ...], whole: Tensor) -> Tensor:
    return torch.cat(pieces, -2) if pieces else whole[..., :0, :]


def _with_sinks(columns, rows, offset, width, sinks, causal, device):
    """Positions of the columns and of the sinks, each once, and which of them each row may see."""
    near = torch.arange(columns.start, columns.stop, device=device)
    before = torch.arange(min(sinks, columns.start), device=device)
    after = torch.arange(columns.stop, max(columns.stop, sinks), device=device)
    position = torch.cat([before, near, after])
    query = torch.arange(rows.start, rows.stop, device=device)[:, None] + offset
    distance = query - position
    open_ = (distance.abs() < width) | (position < sinks)
    return position, open_ & (distance >= 0) if causal else open_


def _dilated(q, k, v, mask, causal, offset, width, dilation, block):
    """Queries see only keys of their own remainder modulo ``dilation``: one window for each."""
    T, S = q.shape[-2], k.shape[-2]
    if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:
        raise ValueError(
            f"dilation takes a mask with one row for all queries, got {tuple(mask.shape)}"
        )
    steps, shift = divmod(offset, dilation)
    front = T + shift
    q = _by_remainder(F.pad(q, (0, 0, shift, -front % dilation)), dilation)  # *batch d T/d K
    key = torch.ones(1, S, dtype=torch.bool, device=q.device)
    key = key if mask is None else key & mask  # … 1 S
    key = F.pad(key, (0, -S % dilation))  # what is added behind is closed
    key = _by_remainder(key.mT, dilation).mT  # … d 1 S/d
    k, v = (_by_remainder(F.pad(x, (0, 0, 0, -S % dilation)), dilation) for x in (k, v))
    out = _banded(q, k, v, key, causal, steps, width, 0, block)  # *batch d T/d V
    return out.transpose(-3, -2).flatten(-3, -2)[..., shift:front, :]


def _by_remainder(x: Tensor, dilation: int) -> Tensor:
    return x.unflatten(-2, (-1, dilation)).transpose(-3, -2)  # … S K -> … d S/d K

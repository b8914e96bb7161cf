"""Attention to chosen blocks of keys: a window, global blocks and random ones (Zaheer et al. 2020).

A *layout* says for each block of queries which blocks of keys it sees. Cost is the number of open
blocks: with ``w`` neighbours, ``g`` global and ``r`` random ones a row it is ``O((w + g + r) T)``,
and any two tokens are two hops apart, by way of a global block.

What it loses against full attention is bounded as in :mod:`lookback.efficient.window`: with share
``m`` of a full softmax inside the open blocks, the output moves by at most
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
    layout: Bool[Tensor, "n m"],
    block: int = 64,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention to the keys of open blocks; no other score is computed.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend; broadcastable to ``(*batch, T, S)``.
        causal: also close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores; ``1/√K`` when left out.
        layout: True where a block of queries sees a block of keys, ``(⌈T/block⌉, ⌈S/block⌉)``; as
            :func:`big_bird` draws one.
        block: queries, and keys, in a block; at least 1.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, or if the layout is not
            boolean or does not fit the lengths.
    """
    reference.check_inputs(q, k, v)
    T, S = q.shape[-2], k.shape[-2]
    if mask is not None:
        masks.check(mask, (*q.shape[:-1], S))
    _check_layout(layout, T, S, block)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    n, m = layout.shape
    layout = layout.to(q.device)
    if causal:  # a block whose first key comes after the last query is closed
        last = torch.arange(n, device=q.device)[:, None] * block + block - 1 + offset
        layout = layout & (torch.arange(m, device=q.device) * block <= last)
    # a row of blocks each, padded to whole blocks
    q = F.pad(q * scale, (0, 0, 0, n * block - T)).unflatten(-2, (n, block))  # *batch n b K
    k, v = (F.pad(x, (0, 0, 0, m * block - S)).unflatten(-2, (m, block)) for x in (k, v))

    out, order = [q.new_zeros(*q.shape[:-3], 0, block, v.shape[-1])], []
    # rows with equally many open blocks make one matrix product
    for count in layout.sum(-1).unique().tolist():
        rows = (layout.sum(-1) == count).nonzero()[:, 0]  # r
        columns = layout[rows].nonzero()[:, 1].view(len(rows), count)  # r c
        query, key = _positions(rows, block)[..., None], _positions(columns, block).flatten(-2)
        open_ = (key < S)[:, None]  # r 1 c·b
        if causal:
            open_ = open_ & (key[:, None] <= query + offset)
        if mask is not None:
            open_ = open_ & _entries(mask, query, key[:, None])
        k_near, v_near = (x[..., columns, :, :].flatten(-3, -2) for x in (k, v))  # *batch r c·b K
        scores = q[..., rows, :, :] @ k_near.mT  # *batch r b c·b
        out.append(reference.masked_softmax(scores, open_) @ v_near)
        order.append(rows)
    place = torch.cat(order).argsort() if order else torch.arange(0, device=q.device)
    return torch.cat(out, -3)[..., place, :, :].flatten(-3, -2)[..., :T, :]


def big_bird(
    T: int,
    S: int | None = None,
    *,
    block: int = 64,
    window: int = 3,
    global_blocks: int = 1,
    random_blocks: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "n m"]:
    """A layout with a window, global and random blocks (Zaheer et al. 2020, section 2).

    Args:
        T: number of queries.
        S: number of keys; ``T`` when left out.
        block: tokens in a block.
        window: blocks in the window around a block of queries, its own counted; odd, or 0.
        global_blocks: blocks at the start that see every block and are seen by every block.
        random_blocks: further blocks of keys drawn for each block of queries, as far as there are.
        seed: of the draw; the same seed gives the same layout on every device.
        device: where the layout goes; torch's default when left out.

    Returns:
        Boolean layout of shape ``(⌈T/block⌉, ⌈S/block⌉)``. Under a causal mask what lies in the
        future is closed, random blocks too.

    Raises:
        ValueError: if a number is negative, ``block`` below 1 or ``window`` even and not 0.
    """
    S = T if S is None else S
    if min(T, S, window, global_blocks, random_blocks) < 0 or block < 1:
        raise ValueError(
            f"need lengths and counts ≥ 0 and block ≥ 1, got T = {T}, S = {S}, block = {block}, "
            f"window = {window}, global_blocks = {global_blocks}, random_blocks = {random_blocks}"
        )
    if window and window % 2 == 0:
        raise ValueError(f"a window reaches as far to both sides: its width is odd, got {window}")
    n, m = -(-T // block), -(-S // block)
    row, column = torch.arange(n, device="cpu")[:, None], torch.arange(m, device="cpu")
    layout = 2 * (row - column).abs() < window
    layout |= (row < global_blocks) | (column < global_blocks)
    draw = torch.rand(n, m, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    # the highest draws among the blocks that are still closed
    rank = draw.masked_fill(layout, -1.0).argsort(-1, descending=True).argsort(-1)
    return (layout | (rank < random_blocks)).to(device or torch.get_default_device())


def spread(
    layout: Bool[Tensor, "n m"], T: int, S: int | None = None, *, block: int = 64
) -> Bool[Tensor, "T S"]:
    """The layout as a mask, one entry a query and key: what to draw, and what to compare with.

    Raises:
        ValueError: if the layout does not fit the lengths.
    """
    S = T if S is None else S
    _check_layout(layout, T, S, block)
    return layout.repeat_interleave(block, 0).repeat_interleave(block, 1)[:T, :S]


def _positions(blocks: Tensor, block: int) -> Tensor:
    return blocks[..., None] * block + torch.arange(block, device=blocks.device)  # … -> … b


def _entries(mask: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The mask at the given queries and keys; those beyond its end read its last entry."""
    mask = torch.atleast_2d(mask)
    T, S = mask.shape[-2:]
    row = row[:1, :1] if T == 1 else row  # one row for all queries
    return mask[..., row.clamp(max=T - 1), column.clamp(max=S - 1)]


def _check_layout(layout: Tensor, T: int, S: int, block: int) -> None:
    if block < 1:
        raise ValueError(f"a block needs at least 1 token, got {block}")
    if layout.dtype != torch.bool:
        raise ValueError(f"a layout must be boolean (True = open), got {layout.dtype}")
    wanted = (-(-T // block), -(-S // block))
    if tuple(layout.shape) != wanted:
        raise ValueError(
            f"{T} queries and {S} keys in blocks of {block} need a layout of shape {wanted}, got "
            f"{tuple(layout.shape)}"
        )

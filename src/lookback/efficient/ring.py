"""Exact attention to a sequence that no one process holds (Liu et al. 2023, ring attention).

Each of ``n`` processes holds a part of the sequence. Queries stay where they are; keys and values
travel round the ring, one place a step, and after ``n`` steps every query has met every key. What
the steps found is joined by their log-sum-exps ``L``, as tiles are:

    L′ = log(e^L + e^(L_s))          O′ = e^(L − L′) O + e^(L_s − L′) O_s

In the backward pass the gradients of keys and values travel with them and are home after ``n``
steps. A process holds two parts at a time, so memory does not grow with the length of the whole.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function

from lookback import masks
from lookback.efficient import reference, tiled


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch T K"],
    v: Float[Tensor, "*batch T V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    group: dist.ProcessGroup | None = None,
    tile: int = tiled.TILE,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention of this process's part to the whole sequence.

    Every process of the group calls it at the same time with its own part, and takes part in the
    backward pass. Parts follow one another in the order of ranks and may differ in length.

    Args:
        q: queries of this part.
        k: keys of this part.
        v: values of this part.
        mask: True where a query of this part may attend; broadcastable to ``(*batch, T, S)`` with
            the keys of the *whole* sequence.
        causal: also close every key after its query, in the whole sequence. Steps wholly in the
            future are handed on and not computed, so late ranks work more than early ones.
        scale: factor on the scores; ``1/√K`` when left out.
        group: processes of the ring; all of them when left out.
        tile: queries, and keys, in one tile.

    Returns:
        One weighted sum of values for each query of this part; zeros where there is nothing to
        attend to.

    Raises:
        ValueError: as :func:`lookback.efficient.tiled.attention`; if there are not as many queries
            as keys, no process group exists, or the parts differ in anything but their length.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError("a ring needs a process group: torch.distributed is not initialised")
    reference.check_inputs(q, k, v)
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(f"this part has {q.shape[-2]} queries but {k.shape[-2]} keys")
    if tile < 1:
        raise ValueError(f"a tile needs at least 1 query and key, got {tile}")
    lengths = _lengths(k, v, group)
    if mask is not None:
        masks.check(mask, (*q.shape[:-1], sum(lengths)))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _Ring.apply(q, k, v, mask, causal, scale, tile, lengths, group)[0]


class _Ring(Function):
    @staticmethod
    def forward(q, k, v, mask, causal, scale, tile, lengths, group):
        dtype = reference.sum_dtype(q)
        out = q.new_zeros(*q.shape[:-1], v.shape[-1], dtype=dtype)
        total = q.new_full(q.shape[:-1], float("-inf"), dtype=dtype)
        with torch.autocast(q.device.type, enabled=False):
            for source, (k_s, v_s) in _visits([k, v], lengths, group):
                options = _options(source, lengths, mask, causal, group)
                if options is None:
                    continue
                part, part_total = tiled.forward(q, k_s, v_s, **options, scale=scale, tile=tile)
                joined = torch.logaddexp(total, part_total)
                # a row that has met no open key yet stays at zero: its share is 0 of anything
                finite = joined.masked_fill(joined == float("-inf"), 0.0)
                out = out * (total - finite).exp()[..., None]
                out = out + part * (part_total - finite).exp()[..., None]
                total = joined
        return out.to(q.dtype), total

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, v, mask, *ctx.options = inputs
        out, total = output
        ctx.mark_non_differentiable(total)
        ctx.save_for_backward(q, k, v, mask, out, total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, _):
        q, k, v, mask, out, total = ctx.saved_tensors
        causal, scale, tile, lengths, group = ctx.options
        dtype = total.dtype
        dq = torch.zeros_like(q, dtype=dtype)
        travelling = [k, v, torch.zeros_like(k, dtype=dtype), torch.zeros_like(v, dtype=dtype)]
        with torch.autocast(q.device.type, enabled=False):
            D = (grad.to(dtype) * out).sum(-1)  # *batch T
            for source, visit in _visits(travelling, lengths, group, home=True):
                options = _options(source, lengths, mask, causal, group)
                if options is None:
                    continue
                k_s, v_s, dk_s, dv_s = visit
                found = tiled.backward(
                    grad, q, k_s, v_s, total, D, **options, scale=scale, tile=tile
                )
                dq += found[0]
                dk_s += found[1]
                dv_s += found[2]
        _, _, dk, dv = visit
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), *[None] * 6


def _visits(tensors, lengths, group, home=False):
    """Yield what each process started with, own part first, as it comes round the ring.

    What the caller adds to a visiting tensor travels on with it. With ``home``, the last tensors
    yielded are sent on once more, so that everyone ends with their own, which are copied into the
    list that was yielded last.
    """
    rank, n = dist.get_rank(group), dist.get_world_size(group)
    visit = [x.contiguous() for x in tensors]
    for step in range(n):
        source = (rank - step) % n
        yield source, visit
        if step < n - 1 or home:
            arriving = lengths[(source - 1) % n]
            visit[:] = _hand_on(visit, arriving, group)


def _hand_on(visit: list[Tensor], arriving: int, group) -> list[Tensor]:
    """Send the tensors to the next process and receive the previous one's, of another length."""
    rank, n = dist.get_rank(group), dist.get_world_size(group)
    if n == 1:
        return visit
    following, previous = ((rank + step) % n for step in (1, -1))
    if group is not None:
        following, previous = (dist.get_global_rank(group, r) for r in (following, previous))
    received = [x.new_empty(*x.shape[:-2], arriving, x.shape[-1]) for x in visit]
    sends = [dist.P2POp(dist.isend, x, following, group) for x in visit if x.numel()]
    receives = [dist.P2POp(dist.irecv, x, previous, group) for x in received if x.numel()]
    if sends or receives:
        for request in dist.batch_isend_irecv(sends + receives):
            request.wait()
    return received


def _options(source, lengths, mask, causal, group) -> dict | None:
    """How this process's queries meet the keys of ``source``; None where all lie in the future."""
    rank = dist.get_rank(group)
    starts = [sum(lengths[:r]) for r in range(len(lengths))]
    offset = starts[rank] - starts[source]
    if causal and source > rank:
        return None
    if mask is not None:
        columns = slice(starts[source], starts[source] + lengths[source])
        mask = reference.part(mask, slice(0, lengths[rank]), columns)
    return {"mask": mask, "causal": causal, "offset": offset}


def _lengths(k: Tensor, v: Tensor, group) -> list[int]:
    """The length of every process's part, in the order of ranks."""
    mine = (tuple(k.shape[:-2]), k.shape[-1], v.shape[-1], str(k.dtype), k.shape[-2])
    everyone = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, mine, group)
    for rank, theirs in enumerate(everyone):
        if theirs[:-1] != mine[:-1]:
            raise ValueError(
                f"parts differ: batch, widths and dtype are {mine[:-1]} here, {theirs[:-1]} on "
                f"rank {rank}"
            )
    return [theirs[-1] for theirs in everyone]

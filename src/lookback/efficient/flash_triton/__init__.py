"""Flash attention as GPU kernels in Triton: exact, in linear memory, at the speed of the hardware.

The tricks, and where they come from:

* tiles and the running softmax, so that no score reaches memory; weights computed again in the
  backward pass from the log-sum-exp (Dao et al. 2022; Dao 2023, algorithms 1 and 2);
* the division by the sum of weights once a row, at the end, instead of once a tile (Dao 2023,
  section 3.1), and powers of two with ``log₂ e`` folded into the scale;
* tiles that are wholly open in a loop without a mask, tiles that are wholly closed not visited: a
  causal pass costs half, a window ``T · width``, padding at the end nothing;
* one tile of keys for a whole group of query heads (Ainslie et al. 2023), never repeated in memory.

:mod:`~lookback.efficient.flash_triton.forward` and
:mod:`~lookback.efficient.flash_triton.backward` hold the kernels, to be read in that order;
:mod:`~lookback.efficient.tiled` is the same algorithm in plain torch. Results equal
:mod:`~lookback.efficient.reference` up to rounding.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks
from lookback.efficient import reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 128
OLDEST = (8, 0)  # Ampere: the first with matrix units for bfloat16 and copies in the background

# As Triton itself reads it, once, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
INSTALLED = find_spec("triton") is not None
if INSTALLED:
    from lookback.efficient.flash_triton import op


def attention(
    q: Float[Tensor, "... T K"],
    k: Float[Tensor, "... S K"],
    v: Float[Tensor, "... S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    window: int | None = None,
) -> Float[Tensor, "... T V"]:
    """Scaled dot-product attention in one kernel (Dao 2023): exact, in linear memory.

    Args:
        q: queries ``(*batch, T, K)``, in float32, float16 or bfloat16; ``K`` up to 128. Under
            autocast inputs take its dtype, as those of torch's own attention do.
        k: keys ``(*batch, S, K)``. The last axis before the length may be shorter than that of the
            queries and divide it: ``(*batch, G, S, K)`` beside ``(*batch, H, T, K)``, where each
            head of keys serves ``H / G`` neighbouring heads of queries.
        v: values ``(*batch, S, V)``, batch as that of ``k``; ``V`` up to 128.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``. Where heads share keys, they share their mask.
        causal: also close every key after its query.
        offset: position of the first query, read where ``causal`` or ``window`` is set.
        scale: factor on the scores; ``1/√K`` when left out.
        window: keys within reach on one side, the query's own position counted, as in
            :func:`lookback.masks.window`; without ``causal`` it reaches to both sides.

    Returns:
        One weighted sum of values a query. Sums run in float32. A query with nothing to attend to
        gets zeros and sends zero gradient.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`; if ``window`` is below 1; or,
            with what is supported, where :func:`refusal` names a reason.
        RuntimeError: on asking for a second derivative, which recomputation does not give.
    """
    q, k, v = reference.autocast(q, k, v)
    _check(q, k, v, mask, window)
    reason = refusal(q, k, v, mask)
    if reason is not None:
        raise ValueError(reason)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if scale <= 0:  # the kernel takes the maximum of scores before it scales them
        q, scale = q * ((scale > 0) - (scale < 0)), abs(scale) or 1.0
    # a key j is open to query i where low ≤ j − i ≤ high
    low = None if window is None else offset - (window - 1)
    high = offset if causal else None if window is None else offset + window - 1
    keys = None if mask is None else _four_axes(mask.expand(*mask.shape[:-1], k.shape[-2]))[:, :, 0]
    out, _ = op.flash_attention(*(_four_axes(x) for x in (q, k, v)), keys, low, high, float(scale))
    return out.reshape(*q.shape[:-1], v.shape[-1])


def refusal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> str | None:
    """Why the kernel cannot serve these inputs, with what it can serve; None where it can."""
    plain = "; lookback.efficient.tiled computes the same anywhere"
    reason = no_device(q)
    if reason is not None:
        return reason + plain
    if any(x.device != q.device for x in (k, v, *([] if mask is None else [mask]))):
        return f"q is on {q.device}, but not all of k, v and mask: move them to one device"
    if q.dtype not in DTYPES:
        return f"the kernel takes float32, float16 and bfloat16, got {q.dtype}{plain}"
    for name, x in (("queries and keys", q), ("values", v)):
        if not 1 <= x.shape[-1] <= WIDEST:
            return f"the kernel takes widths of 1 to {WIDEST}, {name} have {x.shape[-1]}{plain}"
    if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:
        return (
            f"a mask of shape {tuple(mask.shape)} tells queries apart; the kernel takes one row "
            f"for all of them, (*batch, 1, S), besides causal and window{plain}"
        )
    shared = min(q.ndim, k.ndim) > 2 and q.shape[-3] != k.shape[-3]
    if shared and mask is not None and mask.ndim > 2 and mask.shape[-3] > 1:
        return (
            f"a mask of shape {tuple(mask.shape)} tells apart heads that share keys; the kernel "
            f"takes one for all of them, (*batch, 1, 1, S){plain}"
        )
    return None


def no_device(q: Tensor) -> str | None:
    """Why no kernel at all can run where ``q`` is; None where one can."""
    if not INSTALLED:
        return "Triton is not installed (pip install 'lookback[gpu]', on Linux)"
    if q.device.type != "cuda" and not INTERPRETED:
        return f"the kernel runs on a CUDA GPU, but q is on {q.device}"
    if q.device.type == "cuda" and torch.cuda.get_device_capability(q.device) < OLDEST:
        found = ".".join(map(str, torch.cuda.get_device_capability(q.device)))
        return f"the kernel needs compute capability 8.0 or later, this GPU has {found}"
    return None


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, window: int | None) -> None:
    one_each = q
    if q.ndim > 2 and k.ndim > 2 and 0 < k.shape[-3] < q.shape[-3]:
        if q.shape[-3] % k.shape[-3]:
            raise ValueError(
                f"{q.shape[-3]} query heads cannot share {k.shape[-3]} heads of keys and values "
                "equally"
            )
        one_each = q[..., :: q.shape[-3] // k.shape[-3], :, :]
    reference.check_inputs(one_each, k, v)
    if mask is not None:
        masks.check(mask, (*q.shape[:-1], k.shape[-2]))
    if window is not None and window < 1:
        raise ValueError(f"a window needs a width of at least 1, got {window}")


def _four_axes(x: Tensor) -> Tensor:
    """``(*batch, H, T, K)`` as ``(B, H, T, K)``, with axes of length 1 where there are none."""
    while x.ndim < 4:
        x = x.unsqueeze(0)
    return x.flatten(0, -4)

"""The kernels as operators of torch, so that autograd, autocast and ``torch.compile`` know them.

An operator is opaque: a compiler calls it as it is, and learns the shapes of its results from the
``register_fake`` beside it. Tensors have four axes here, ``(B, H, T, K)`` and ``(B, G, S, K)``.
"""

import math

import torch
import triton
from torch import Tensor

from lookback.efficient.flash_triton import tuning
from lookback.efficient.flash_triton.backward import flash_backward_keys, flash_backward_queries
from lookback.efficient.flash_triton.forward import flash_forward

BAND = "Tensor? mask, SymInt? low, SymInt? high, float scale"


@torch.library.custom_op(
    "lookback::flash_attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {BAND}) -> (Tensor, Tensor)",
)
def flash_attention(q, k, v, mask, low, high, scale):
    """Output ``(B, H, T, V)`` and log-sum-exp ``(B, H, T)`` to base 2, ``+inf`` in an empty row.

    Args:
        q, k, v: queries, keys and values; ``G`` divides ``H``.
        mask: True where a key is open, ``(B or 1, H or 1, S)``.
        low, high: a key ``j`` is open to query ``i`` where ``low ≤ j − i ≤ high``; None: no bound.
        scale: positive factor on the scores.
    """
    q, k, v = (_rows(x) for x in (q, k, v))
    out = _packed(q, q.shape[2], v.shape[3])
    total = q.new_empty(q.shape[:3], dtype=torch.float32)
    arguments, constants = _arguments(q, k, v, mask, low, high, scale)
    scale2 = arguments.pop("scale") * math.log2(math.e)
    B, H, T, _ = q.shape
    with torch.cuda.device_of(q):  # Triton starts a kernel on the current device
        if B * H * T:
            flash_forward[lambda meta: (triton.cdiv(T, meta["BLOCK_T"]) * B * H,)](
                Q=q, K=k, V=v, O=out, L=total, scale2=scale2, **arguments, **constants
            )
    return out, total


@flash_attention.register_fake
def _(q, k, v, mask, low, high, scale):
    return _packed(q, q.shape[2], v.shape[3]), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "lookback::flash_attention_backward",
    mutates_args=(),
    schema=(
        "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor total, "
        f"{BAND}) -> (Tensor, Tensor, Tensor)"
    ),
)
def flash_attention_backward(grad, q, k, v, out, total, mask, low, high, scale):
    """Gradients of ``q``, ``k`` and ``v`` from that of the output."""
    q, k, v = (_rows(x) for x in (q, k, v))
    if grad.stride() != out.stride():  # the kernels read both by the same steps
        grad = torch.empty_like(out).copy_(grad)
    dq, dk, dv = (_packed(x, x.shape[2], x.shape[3]) for x in (q, k, v))
    D = torch.empty_like(total)
    arguments, constants = _arguments(q, k, v, mask, low, high, scale)
    arguments["scale2"] = scale * math.log2(math.e)
    (B, H, T, _), (_, G, S, _) = q.shape, k.shape
    with torch.cuda.device_of(q):
        if B * H * T:
            flash_backward_queries[lambda meta: (triton.cdiv(T, meta["BLOCK_T"]) * B * H,)](
                Q=q, K=k, V=v, O=out, L=total, dO=grad, dQ=dq, D=D, **arguments, **constants
            )
        if B * G * S:
            del arguments["full"]
            flash_backward_keys[lambda meta: (triton.cdiv(S, meta["BLOCK_S"]) * B * G,)](
                Q=q, K=k, V=v, L=total, D=D, dO=grad, dK=dk, dV=dv, **arguments, **constants
            )
    return dq, dk, dv


@flash_attention_backward.register_fake
def _(grad, q, k, v, out, total, mask, low, high, scale):
    return tuple(_packed(x, x.shape[2], x.shape[3]) for x in (q, k, v))


def _setup_context(ctx, inputs, output):
    q, k, v, mask, *ctx.band = inputs
    out, total = output
    ctx.mark_non_differentiable(total)
    ctx.save_for_backward(q, k, v, out, total, mask)


def _backward(ctx, grad, _):
    return *flash_attention_backward(grad, *ctx.saved_tensors, *ctx.band), None, None, None, None


def _no_second_derivative(ctx, *_):
    raise RuntimeError(
        "the attention kernel has no second derivative: its weights are computed again in the "
        "backward pass and not kept; use lookback.efficient.reference.attention"
    )


flash_attention.register_autograd(_backward, setup_context=_setup_context)
flash_attention_backward.register_autograd(_no_second_derivative)


def _rows(x: Tensor) -> Tensor:
    """The same tensor with rows without gaps; the other axes may lie as they like."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _packed(x: Tensor, length, width) -> Tensor:  # sizes are symbols where shapes are traced
    """Room for ``(B, heads, length, width)``, in memory as merging of heads reads it."""
    return x.new_empty(x.shape[0], length, x.shape[1], width).transpose(1, 2)


def _arguments(q, k, v, mask, low, high, scale) -> tuple[dict, dict]:
    """What all three kernels are called with: numbers and tensors, and constants to compile in."""
    (B, H, T, K), (_, G, S, V) = q.shape, v.shape
    arguments = dict(zip(("q_batch", "q_head", "q_row"), q.stride(), strict=False))
    arguments |= dict(zip(("k_batch", "k_head", "k_row"), k.stride(), strict=False))
    arguments |= dict(zip(("v_batch", "v_head", "v_row"), v.stride(), strict=False))
    arguments |= _mask_arguments(mask, B, H, S, q)
    # beyond −T … S a bound closes everything or nothing: cut there, it stays a 32-bit number
    arguments |= {
        "low": 0 if low is None else min(max(low, -T), S),
        "high": 0 if high is None else min(max(high, -T), S),
        **{"H": H, "T": T, "S": S, "scale": scale},
        "size": tuning.size_class(T, S),
    }
    constants = {
        **{"WIDTH_K": K, "PADDED_K": max(16, triton.next_power_of_2(K))},
        **{"WIDTH_V": V, "PADDED_V": max(16, triton.next_power_of_2(V))},
        "SHARE": H // G,
        **{"LOWER": low is not None, "UPPER": high is not None, "MASK": mask is not None},
    }
    return arguments, constants


def _mask_arguments(mask: Tensor | None, B: int, H: int, S: int, q: Tensor) -> dict:
    """The mask, and between which keys it opens some and closes others."""
    if mask is None:  # never read; any tensor serves
        return {"open_keys": q, "full": q, "reach": q, "mask_batch": 0, "mask_head": 0}
    position = torch.arange(1, S + 1, device=q.device)
    reach = (mask * position).amax(-1)  # one behind the last open key
    full = mask.long().cumprod(-1).sum(-1)  # open keys before the first closed one
    spread = mask.contiguous().view(torch.uint8).expand(B, H, S)  # a key a byte, side by side
    return {
        "open_keys": spread,
        "full": full.expand(B, H).to(torch.int32).contiguous(),
        "reach": reach.expand(B, H).to(torch.int32).contiguous(),
        **{"mask_batch": spread.stride(0), "mask_head": spread.stride(1)},
    }

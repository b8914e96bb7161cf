"""The kernels as one operator of torch, and its backward pass in plain torch.

The gradients of linear attention are linear attentions themselves. With the gradient ``d_i`` of the
output, divided by the sum of weights ``t_i``, and ``e_i = −d_i · o_i`` for that sum,

    dq̂_i = Σ_{j ≤ i} g_ij (d_i · v_j + e_i) k̂_j
    dk̂_j = Σ_{i ≥ j} g_ij (d_i · v_j + e_i) q̂_i
    dv_j = Σ_{i ≥ j} g_ij (q̂_i · k̂_j) d_i

where the last two run from the end to the start. They are computed so, by
:func:`lookback.efficient.linear.attention`, in memory that grows with the length alone.
"""

import math

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from lookback.efficient import linear
from lookback.efficient.flash_triton.tuning import size_class
from lookback.efficient.linear_triton.kernels import linear_outputs, linear_states

OPTIONS = "int offset, float scale, str features, bool normalise, int chunk"


@torch.library.custom_op(
    "lookback::linear_attention",
    mutates_args=(),
    schema=(
        f"(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? log_decay, {OPTIONS}) "
        "-> (Tensor, Tensor)"
    ),
)
def linear_attention(q, k, v, mask, log_decay, offset, scale, features, normalise, chunk):
    """Output ``(B, H, T, V)`` and the sum of weights of each query ``(B, H, T)``.

    Args:
        q, k, v: four axes each, ``(B, H, T or S, K or V)``.
        mask: True where a key is open, ``(B, H, S)``.
        log_decay: natural logarithm of each token's decay, float32, ``(B, H, S)``.
        offset, scale, features, normalise, chunk: as in
            :func:`lookback.efficient.linear_triton.attention`.
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    (B, H, T, K), (S, V) = q.shape, v.shape[2:]
    # a query before the first key stands in no chunk, and is written here
    make = q.new_zeros if offset < 0 else q.new_empty
    out, total = make(B, T, H, V).transpose(1, 2), make(B, H, T, dtype=torch.float32)
    N, skipped = -(-max(T + offset, 0) // chunk), max(offset, 0) // chunk
    if not B * H * T * N:
        return out, total
    padded = max(16, triton.next_power_of_2(K))
    states = q.new_empty(B, H, N, padded, V)
    sums = q.new_empty(B, H, N, padded, dtype=torch.float32)
    common = dict(zip(("k_batch", "k_head", "k_row"), k.stride(), strict=False))
    common |= dict(zip(("v_batch", "v_head", "v_row"), v.stride(), strict=False))
    common |= {
        **{"K": k, "V": v, "states": states, "sums": sums, "H": H, "S": S, "N": N},
        "log_decay": sums if log_decay is None else log_decay.contiguous() * math.log2(math.e),
        "open_keys": sums if mask is None else mask.view(torch.uint8),
        "mask_batch": 0 if mask is None else mask.stride(0),
        "mask_head": 0 if mask is None else mask.stride(1),
        "size": size_class(T, S),
        **{"FEATURES": features, "WIDTH_K": K, "WIDTH_V": V, "PADDED_K": padded, "CHUNK": chunk},
        **{"DECAY": log_decay is not None, "MASK": mask is not None},
    }
    queries = dict(zip(("q_batch", "q_head", "q_row"), q.stride(), strict=False))
    queries |= {"Q": q, "O": out, "total": total, "T": T, "skipped": skipped, "offset": offset}
    with torch.cuda.device_of(q):  # Triton starts a kernel on the current device
        linear_states[lambda meta: (B * H, triton.cdiv(V, meta["BLOCK_V"]))](**common)
        linear_outputs[
            lambda meta: (B * H * (N - skipped), triton.cdiv(V, meta["BLOCK_V"]))
        ](**common, **queries, scale=scale, NORMALISE=normalise)  # fmt: skip
    return out, total


@linear_attention.register_fake
def _(q, k, v, mask, log_decay, offset, scale, features, normalise, chunk):
    (B, H, T, _), V = q.shape, v.shape[3]
    out = q.new_empty(B, T, H, V).transpose(1, 2)
    return out, q.new_empty(B, H, T, dtype=torch.float32)


def _setup_context(ctx, inputs, output):
    q, k, v, mask, log_decay, *ctx.options = inputs
    out, total = output
    ctx.mark_non_differentiable(total)
    ctx.save_for_backward(q, k, v, mask, log_decay, out, total)


def _backward(ctx, grad, _):
    dq, dk, dv, d_log_decay = linear_attention_backward(grad, *ctx.saved_tensors, *ctx.options)
    if ctx.saved_tensors[4] is None:
        d_log_decay = None
    return dq, dk, dv, None, d_log_decay, *[None] * len(ctx.options)


@torch.library.custom_op(
    "lookback::linear_attention_backward",
    mutates_args=(),
    schema=(
        "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? log_decay, Tensor out, "
        f"Tensor total, {OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)"
    ),
)
def linear_attention_backward(grad, q, k, v, mask, log_decay, out, total, *options):
    """Gradients of ``q``, ``k``, ``v`` and ``log_decay``; the last is empty where there is none."""
    with torch.autocast(q.device.type, enabled=False):
        gradients = backward(grad, q, k, v, mask, log_decay, out, total, *options)
    dq, dk, dv = (g.to(x.dtype).contiguous() for g, x in zip(gradients, (q, k, v), strict=False))
    return dq, dk, dv, total.new_empty(0) if log_decay is None else gradients[3].contiguous()


@linear_attention_backward.register_fake
def _(grad, q, k, v, mask, log_decay, out, total, *options):
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    return dq, dk, dv, total.new_empty(0 if log_decay is None else log_decay.shape)


def _no_second_derivative(ctx, *_):
    raise RuntimeError(
        "the kernels of linear attention have no second derivative; use "
        "lookback.efficient.linear.attention"
    )


linear_attention.register_autograd(_backward, setup_context=_setup_context)
linear_attention_backward.register_autograd(_no_second_derivative)


def backward(
    grad, q, k, v, mask, log_decay, out, total, offset, scale, features, normalise, chunk
):  # fmt: skip
    """Gradients of ``q``, ``k``, ``v`` and, where there is one, of ``log_decay``, in float32."""
    T, S = q.shape[2], k.shape[2]
    grad, q, k, v, out = (x.float() for x in (grad, q, k, v, out))
    phi = linear.feature_map(features)
    phi_q, phi_k = phi(q * scale), phi(k)
    if mask is not None:
        phi_k = phi_k.masked_fill(~mask[..., None], 0.0)
    e = torch.zeros_like(total)
    if normalise:
        grad = grad / total.masked_fill(total == 0, 1.0)[..., None]
        e = (-(grad * out).sum(-1)).masked_fill(total == 0, 0.0)
    # d_i · v_j + e_i is one product of widened rows
    left, right = torch.cat([grad, e[..., None]], -1), F.pad(v, (0, 1), value=1.0)
    # all on one axis of positions, as linear.attention lays them out itself
    phi_q, phi_k, right = linear.align(phi_q, phi_k, right, offset)
    left, _, _ = linear.align(left, phi_k, right, offset)
    length = phi_q.shape[2]
    decay = None if log_decay is None else F.pad(log_decay, (0, length - S)).exp()
    plain = {"causal": True, "features": "identity", "normalise": False, "chunk": chunk}

    def forwards(a, b, c):
        return linear.attention(a, b, c, decay=decay, **plain)

    def backwards(a, b, c):
        a, b, c = (x.flip(2) for x in (a, b, c))
        # between two tokens lie the same decays, now written when the earlier one is reached
        reversed_ = None if decay is None else F.pad(decay[..., 1:].flip(2), (1, 0), value=1.0)
        return linear.attention(a, b, c, decay=reversed_, **plain).flip(2)

    d_phi_q = forwards(left, right, phi_k)
    d_phi_k = backwards(right, left, phi_q)
    dv = backwards(phi_k, phi_q, left[..., :-1])[:, :, :S]
    d_log_decay = None
    if log_decay is not None:  # g_ij = exp(c_i − c_j), and c sums the logarithms up
        dc = (phi_q * d_phi_q - phi_k * d_phi_k).sum(-1)
        d_log_decay = dc.flip(2).cumsum(2).flip(2)[:, :, :S]
    d_phi_q = F.pad(d_phi_q[:, :, max(offset, 0) :], (0, 0, max(-offset, 0), 0))[:, :, :T]
    dq = scale * slope(q * scale, features) * d_phi_q
    dk = slope(k, features) * d_phi_k[:, :, :S]
    if mask is not None:
        dk = dk.masked_fill(~mask[..., None], 0.0)
    return dq, dk, dv, d_log_decay


def slope(x: Tensor, features: str) -> Tensor:
    """The derivative of φ."""
    return {
        "elu": lambda: x.clamp(max=0).exp(),
        "relu": lambda: (x > 0).to(x.dtype),
        "exp": x.exp,
        "identity": lambda: torch.ones_like(x),
    }[features]()

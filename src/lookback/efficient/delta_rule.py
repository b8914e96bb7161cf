"""Linear attention that rewrites: the delta rule (Schlag et al. 2021, section 4.2).

Linear attention only adds to its state, so a key that is written twice answers with the sum of both
values. The delta rule first reads what the key holds and writes the difference:

    S_t = S_{t−1} + β_t k_t (v_t − S_{t−1}ᵀ k_t)ᵀ          o_t = S_tᵀ q_t

With a key of length 1 and ``β = 1`` the new value replaces the old one exactly; keys at right
angles do not disturb each other. Each write is one step of gradient descent, with step size β, on
``½ ‖Sᵀ k_t − v_t‖²``.

The chunked form takes a whole chunk at once (Yang et al. 2024, section 3.2): the differences that a
chunk writes depend on one another through a triangular matrix, which is solved instead of walked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import reference
from lookback.efficient.linear import align, broadcast_to_keys, key_mask

FORMS = ("recurrent", "chunked")


@reference.without_autocast
def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    beta: float | Float[Tensor, "..."] = 1.0,
    unit_keys: bool = True,
    form: str = "chunked",
    chunk: int = 64,
) -> Float[Tensor, "*batch T V"]:
    """What a memory written by the delta rule returns for each query.

    Args:
        q: queries.
        k: keys, written one after the other.
        v: values.
        mask: True where a key is written, the same for every query (a padding mask), broadcastable
            to ``(*batch, 1, S)``.
        causal: each query reads the memory as it is after the key at its own position; off, every
            query reads it after the last key.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the queries; 1 when left out.
        beta: share of the difference that is written, a number or a tensor broadcastable to
            ``(*batch, S)``. From 0 to 1 it moves from no writing to replacing; up to 2 the memory
            stays bounded.
        unit_keys: scale every key to length 1 first; without it, keys longer than ``√(2/β)`` make
            the memory grow without bound.
        form: ``"recurrent"`` or ``"chunked"``; the same result.
        chunk: tokens in a chunk; at least 1.

    Returns:
        One value a query; zeros for a query before the first key.

    Raises:
        ValueError: if shapes or dtypes do not fit, the mask tells queries apart, the form is
            unknown, or beta leaves 0 to 2 or does not broadcast.
    """
    reference.check_inputs(q, k, v)
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; choose one of {', '.join(FORMS)}")
    if chunk < 1:
        raise ValueError(f"a chunk needs at least 1 token, got {chunk}")
    T, S, dtype = q.shape[-2], k.shape[-2], q.dtype
    if not (T and S):
        return q.new_zeros(*q.shape[:-1], v.shape[-1])
    q, k, v = (x.to(reference.sum_dtype(x)) for x in (q, k, v))
    q = q if scale is None else q * scale
    if unit_keys:
        k = F.normalize(k, dim=-1)
    beta = _strengths(beta, k)
    if mask is not None:
        beta = beta.masked_fill(~key_mask(mask, k), 0.0)
    if causal:
        aligned_q, aligned_k, aligned_v = align(q, k, v, offset)
        beta = F.pad(beta, (0, 0, 0, aligned_k.shape[-2] - S))
    else:
        aligned_q, aligned_k, aligned_v = torch.zeros_like(k), k, v
    run = {"recurrent": _recurrent, "chunked": _chunked}[form]
    out, state = run(aligned_q, aligned_k, aligned_v, beta, chunk)
    if causal:
        out = F.pad(out[..., max(offset, 0) :, :], (0, 0, max(-offset, 0), 0))[..., :T, :]
    else:
        out = q @ state
    return out.to(dtype)


def _recurrent(q, k, v, beta, chunk):
    state = _empty_state(k, v)
    out = [v[..., :0, :]]
    # cut once: slicing at every step would make the backward pass quadratic in the length
    for q_t, k_t, v_t, beta_t in zip(*(x.split(1, -2) for x in (q, k, v, beta)), strict=True):
        written = beta_t * (v_t - k_t @ state)  # *batch 1 V
        state = state + k_t.mT @ written
        out.append(q_t @ state)
    return torch.cat(out, -2), state


def _chunked(q, k, v, beta, chunk):
    """Inside a chunk, row ``t`` writes ``u_t = β_t (v_t − Sᵀ k_t − Σ_{j<t} (k_t·k_j) u_j)``.

    So ``(I + A) U = diag(β) (V − K S)`` with ``A = tril(diag(β) K Kᵀ, −1)``. The inverse is applied
    to ``V`` and ``K`` for all chunks at once; only the state goes from chunk to chunk.
    """
    T, state = k.shape[-2], _empty_state(k, v)
    tail = -T % chunk
    q, k, v, beta = (
        F.pad(x, (0, 0, 0, tail)).unflatten(-2, (-1, chunk)) for x in (q, k, v, beta)
    )  # *batch n c …
    A = (beta * (k @ k.mT)).tril(-1)
    # the ones on the diagonal are implied
    both = torch.linalg.solve_triangular(
        A, beta * torch.cat([v, k], -1), upper=False, unitriangular=True
    )
    from_values, from_state = both.split([v.shape[-1], k.shape[-1]], -1)
    reads = (q @ k.mT).tril()  # a query reads what is written up to its own position
    chunks = zip(*(x.unbind(-3) for x in (q, k, from_values, from_state, reads)), strict=True)
    out = [v.flatten(-3, -2)[..., :0, :]]
    for q_i, k_i, from_values_i, from_state_i, reads_i in chunks:
        u = from_values_i - from_state_i @ state
        out.append(q_i @ state + reads_i @ u)
        state = state + k_i.mT @ u
    return torch.cat(out, -2)[..., :T, :], state


def _empty_state(k: Tensor, v: Tensor) -> Tensor:
    return k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])


def _strengths(beta: float | Tensor, k: Tensor) -> Tensor:
    """β beside the keys, ``(… S 1)``."""
    if isinstance(beta, Tensor) and not beta.is_floating_point():
        raise ValueError(f"beta must be floating point, got {beta.dtype}")
    beta = torch.as_tensor(beta, dtype=k.dtype, device=k.device)
    if not ((beta >= 0) & (beta <= 2) | beta.isnan()).all():
        low, high = float(beta.min()), float(beta.max())
        raise ValueError(f"beta must lie in 0 to 2, but runs from {low:g} to {high:g}")
    return broadcast_to_keys(beta, k, "beta")[..., None]

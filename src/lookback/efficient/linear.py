"""Linear attention: the softmax is replaced by a product of features (Katharopoulos et al. 2020).

    o_i = Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j)
        = φ(q_i)ᵀ (Σ_j φ(k_j) v_jᵀ) / φ(q_i)ᵀ (Σ_j φ(k_j))

The second line never pairs a query with a key. What stands in brackets has a fixed size: a causal
layer carries it from token to token, as a recurrent network carries its state, with ``decay`` as a
forget gate (Sun et al. 2023; one for each token: Dao & Gu 2024). One equation, three forms:

* ``"parallel"``: the ``T × S`` matrix of products, quadratic, one matrix product;
* ``"recurrent"``: one token after the other, linear, the form to generate with;
* ``"chunked"``: parallel inside a chunk, recurrent from chunk to chunk: linear, and fast.

It does not approximate softmax attention: ``φ(q)·φ(k)`` is another kernel, without its sharp peaks.
All that is certain about the distance is ``‖o − o′‖ ≤ Σ_j |w_j − w′_j| · max_j ‖v_j‖``, which never
exceeds ``2 max_j ‖v_j‖``. :mod:`lookback.efficient.random_features` does approximate it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks
from lookback.efficient import reference
from lookback.efficient.scan import scan

FEATURES = ("elu", "relu", "exp", "identity")
FORMS = ("parallel", "recurrent", "chunked")
SPAN = 64
"""Chunks worked on together; what they need at once stays in a processor's cache."""


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
    features: str | Callable[[Tensor], Tensor] = "elu",
    form: str = "chunked",
    decay: float | Float[Tensor, "..."] | None = None,
    normalise: bool = True,
    chunk: int = 64,
) -> Float[Tensor, "*batch T V"]:
    """Linear attention (Katharopoulos et al. 2020, eq. 5; causal: eq. 9).

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``: sums over keys cannot be told apart by query.
        causal: close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the queries before the features; 1 when left out.
        features: φ, by name (:func:`feature_map`) or as a function of ``(*batch, T, K)``.
        form: ``"parallel"``, ``"recurrent"`` or ``"chunked"``; the same result. Without
            ``causal`` the latter two both sum over the keys first.
        decay: share of the state kept at each token, in (0, 1], causal only: a number, or a tensor
            broadcastable to ``(*batch, S)`` with the share kept when that token is written. No
            query may then stand behind the last key.
        normalise: whether to divide by the summed products; off, the result is a plain sum.
        chunk: tokens in a chunk; at least 1.

    Returns:
        One weighted sum of values a query; zeros where the weights sum to 0.

    Raises:
        ValueError: if shapes or dtypes do not fit, the mask tells queries apart, a name is
            unknown, or the decay is not causal or leaves (0, 1].
    """
    reference.check_inputs(q, k, v)
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; choose one of {', '.join(FORMS)}")
    if chunk < 1:
        raise ValueError(f"a chunk needs at least 1 token, got {chunk}")
    T, S, dtype = q.shape[-2], k.shape[-2], q.dtype
    q, k, v = (x.to(reference.sum_dtype(x)) for x in (q, k, v))
    log_decay = token_log_decay(decay, k, causal, T + offset)
    phi = feature_map(features) if isinstance(features, str) else features
    if not (T and S):
        return q.new_zeros(*q.shape[:-1], v.shape[-1], dtype=dtype)
    phi_q, phi_k = phi(q if scale is None else q * scale), phi(k)
    if mask is not None:
        phi_k = phi_k.masked_fill(~key_mask(mask, k), 0.0)
    if normalise:  # a column of ones beside the values carries the sum of weights along
        v = F.pad(v, (0, 1), value=1.0)
    if causal:
        phi_q, phi_k, v = align(phi_q, phi_k, v, offset)
        if log_decay is not None:
            log_decay = F.pad(log_decay, (0, v.shape[-2] - S))
        run = {"parallel": _parallel, "recurrent": _recurrent, "chunked": _chunked}[form]
        out = run(phi_q, phi_k, v, log_decay, chunk)
        out = _padded(out[..., max(offset, 0) :, :], max(-offset, 0), 0)[..., :T, :]
    elif form == "parallel":
        out = (phi_q @ phi_k.mT) @ v
    else:
        out = phi_q @ (phi_k.mT @ v)  # the state (features × values) instead of the matrix
    return (_divide(out) if normalise else out).to(dtype)


def feature_map(name: str) -> Callable[[Tensor], Tensor]:
    """φ by name: ``elu`` (elu(x) + 1, Katharopoulos et al. eq. 7), ``relu``, ``exp``, ``identity``.

    Only ``elu`` and ``exp`` are positive everywhere, so that no sum of weights is zero.

    Raises:
        ValueError: if the name is unknown.
    """
    known = {
        "elu": lambda x: F.elu(x) + 1,
        "relu": F.relu,
        "exp": torch.exp,
        "identity": lambda x: x,
    }
    if name not in known:
        raise ValueError(f"unknown features {name!r}; choose one of {', '.join(FEATURES)}")
    return known[name]


def key_mask(mask: Bool[Tensor, "..."], k: Float[Tensor, "*batch S K"]) -> Bool[Tensor, "..."]:
    """A mask ``(*batch, 1, S)`` turned to stand beside the keys, ``(*batch, S, 1)``.

    Raises:
        ValueError: if it is not boolean, does not broadcast, or tells queries apart.
    """
    if mask.ndim > 1 and mask.shape[-2] > 1:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} tells queries apart; sums over keys are the same "
            "for every query and take a mask (*batch, 1, S)"
        )
    masks.check(mask, (*k.shape[:-2], 1, k.shape[-2]))
    return torch.atleast_2d(mask).mT


def broadcast_to_keys(x: Tensor, k: Float[Tensor, "*batch S K"], name: str) -> Tensor:
    """One number a key: ``x`` with its last axis spread to ``S``.

    Raises:
        ValueError: if it does not broadcast to ``(*batch, S)``.
    """
    wanted = tuple(k.shape[:-1])
    if not masks.broadcasts(x.shape, wanted):
        raise ValueError(f"{name} of shape {tuple(x.shape)} does not broadcast to {wanted}")
    return x.expand(*x.shape[:-1], wanted[-1])


def align(phi_q: Tensor, phi_k: Tensor, v: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one length, so that row ``t`` of each stands at position ``t``.

    Positions without a query, or without a key, are filled with zeros; queries before position 0
    are dropped.
    """
    T, S = phi_q.shape[-2], phi_k.shape[-2]
    length = max(S, T + offset, 0)
    phi_q = phi_q[..., max(-offset, 0) :, :]
    before = min(max(offset, 0), length)
    phi_q = _padded(phi_q, before, length - before - phi_q.shape[-2])
    return phi_q, _padded(phi_k, 0, length - S), _padded(v, 0, length - S)


def _padded(x: Tensor, before: int, after: int) -> Tensor:
    """Rows of zeros before and after; no copy where there are none to add."""
    return F.pad(x, (0, 0, before, after)) if before or after else x


def _parallel(phi_q, phi_k, v, log_decay, chunk):
    return _fade(phi_q @ phi_k.mT, log_decay) @ v


def _recurrent(phi_q, phi_k, v, log_decay, chunk):
    state = phi_k.new_zeros(*phi_k.shape[:-2], phi_k.shape[-1], v.shape[-1])
    log_decay = v.new_zeros(v.shape[-2]) if log_decay is None else log_decay
    keep = log_decay.exp()[..., None]
    out = [v[..., :0, :]]
    # cut once: slicing at every step would make the backward pass quadratic in the length
    steps = zip(*(x.split(1, -2) for x in (phi_q, phi_k, v, keep)), strict=True)
    for q_t, k_t, v_t, keep_t in steps:
        state = keep_t * state + k_t.mT @ v_t  # *batch F V
        out.append(q_t @ state)
    return torch.cat(out, -2)


def _chunked(phi_q, phi_k, v, log_decay, chunk):
    T = v.shape[-2]
    tail = -T % chunk
    parts = [_padded(x, 0, tail).unflatten(-2, (-1, chunk)) for x in (phi_q, phi_k, v)]
    spans = [x.split(SPAN, -3) for x in parts]  # *batch n c …
    if log_decay is None:
        spans.append([None] * len(spans[0]))
    else:
        spans.append(F.pad(log_decay, (0, tail)).unflatten(-1, (-1, chunk)).split(SPAN, -2))
    state = phi_k.new_zeros(*phi_k.shape[:-2], phi_k.shape[-1], v.shape[-1])  # *batch F V
    out = []
    for span in zip(*spans, strict=True):
        here, state = _span(*span, state)
        out.append(here.flatten(-3, -2))
    return torch.cat(out, -2)[..., :T, :]


def _span(phi_q, phi_k, v, log_decay, state):
    """Chunks side by side, from the state that the first of them finds to the last one's."""
    out = _fade(phi_q @ phi_k.mT, log_decay) @ v
    state = state[..., None, :, :]
    if log_decay is None:
        states = torch.cat([state, phi_k.mT @ v], -3).cumsum(-3)  # *batch n+1 F V
    else:
        kept = log_decay.cumsum(-1)  # *batch n c: logarithm of the share kept since the chunk began
        # what each chunk adds to the state, faded to the chunk's end, and the states that makes
        added = (phi_k * (kept[..., -1:] - kept).exp()[..., None]).mT @ v
        whole = kept[..., -1].exp().expand(added.shape[:-2])[..., None, None]  # *batch n 1 1
        whole, added = F.pad(whole, (0, 0, 0, 0, 1, 0)), torch.cat([state, added], -3)
        states = scan(whole.movedim(-3, 0), added.movedim(-3, 0)).movedim(0, -3)
        phi_q = phi_q * kept.exp()[..., None]
    return out + phi_q @ states[..., :-1, :, :], states[..., -1, :, :]


def _fade(scores: Tensor, log_decay: Tensor | None) -> Tensor:
    """Products of features with what is left of token ``j`` at token ``i``.

    That is ``Π_{j < t ≤ i} decay_t``, and 0 where ``j > i``.
    """
    if log_decay is None:
        return scores.tril()
    total = log_decay.cumsum(-1)
    difference = total[..., :, None] - total[..., None, :]
    future = ~masks.causal(log_decay.shape[-1], device=log_decay.device)
    # closed before the exponential, which may overflow there
    return scores * difference.masked_fill(future, float("-inf")).exp()


def _divide(out: Tensor) -> Tensor:
    total = out[..., -1:]
    return out[..., :-1] / total.masked_fill(total == 0, 1.0)


def token_log_decay(
    decay: float | Tensor | None, k: Tensor, causal: bool, end: int
) -> Tensor | None:
    """Logarithm of each token's decay, ``(… S)``; None where nothing fades.

    Raises:
        ValueError: if there is a decay without ``causal``, a query behind the last key, or a share
            outside (0, 1].
    """
    S = k.shape[-2]
    if decay is None:
        return None
    if not causal:
        raise ValueError("decay counts the steps from a key to a later query: it needs causal=True")
    if end > S:
        raise ValueError(f"decay is known for {S} keys, but queries stand as far as {end - 1}")
    if isinstance(decay, Tensor) and not decay.is_floating_point():
        raise ValueError(f"decay must be floating point, got {decay.dtype}")
    decay = torch.as_tensor(decay, dtype=k.dtype, device=k.device)
    if not ((decay > 0) & (decay <= 1) | decay.isnan()).all():
        low, high = float(decay.min()), float(decay.max())
        raise ValueError(f"decay must lie in (0, 1], but runs from {low:g} to {high:g}")
    return broadcast_to_keys(decay.log(), k, "decay")

"""Attention through ``R`` summaries of the keys instead of all ``S`` of them.

Linformer (Wang et al. 2020, eq. 7) projects keys and values along the sequence:

    softmax(Q (E K)ᵀ · scale) (F V)          E, F of shape (R, S)

Nyströmformer (Xiong et al. 2021, eq. 13) keeps all three sides and puts a pseudo-inverse between:

    softmax(Q K̃ᵀ) softmax(Q̃ K̃ᵀ)⁺ softmax(Q̃ Kᵀ) V          Q̃, K̃: means over R segments

Both mix the future into every summary, so neither can be causal.

Error of Linformer with means over equal segments (:func:`segment_means`): if every score ``q·k_j``
lies within ``η`` of the score of its segment's mean, the output lies within
``(e^(2η) − 1) · max_j ‖v_j‖`` of softmax attention's. It is exact where keys are constant inside
segments. Nyström is exact there too where queries are, and where every token is its own segment
(``R = T = S``); in between its error depends on the spectrum of the weights, and is measured.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookback import masks
from lookback.efficient import reference
from lookback.efficient.linear import key_mask


def linformer(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    project_k: Float[Tensor, "... R S"],
    project_v: Float[Tensor, "... R S"] | None = None,
) -> Float[Tensor, "*batch T V"]:
    """Attention to ``R`` mixtures of keys (Wang et al. 2020, eq. 7), in time ``T · R``.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``. Closed keys and values count as zeros, and a
            mixture of closed keys alone is closed.
        causal: must be off: every mixture holds the future.
        offset: not read, since nothing is causal.
        scale: factor on the scores; ``1/√K`` when left out.
        project_k: E, learned or fixed (:func:`segment_means`, :func:`gaussian`); axes before the
            last two broadcast to the batch.
        project_v: F; E when left out.

    Returns:
        One weighted sum of mixed values a query; zeros where every key is closed.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention`, if the mask tells queries
            apart, ``causal`` is set or a projection does not fit.
    """
    reference.check_inputs(q, k, v)
    _refuse_causal(causal)
    project_v = project_k if project_v is None else project_v
    q, k, v, project_k, project_v = reference.autocast(q, k, v, project_k, project_v)
    for name, x in (("project_k", project_k), ("project_v", project_v)):
        _check_projection(name, x, k)
    if project_k.shape[-2] != project_v.shape[-2]:
        raise ValueError(
            f"keys are mixed into {project_k.shape[-2]}, values into {project_v.shape[-2]}"
        )
    closed = None
    if mask is not None:
        keep = key_mask(mask, k)  # … S 1
        k, v = k.masked_fill(~keep, 0.0), v.masked_fill(~keep, 0.0)
        closed = ((project_k != 0) & keep.mT).any(-1)[..., None, :]  # … 1 R
        closed = closed.expand(*q.shape[:-2], 1, project_k.shape[-2])
    return reference.attention(q, project_k @ k, project_v @ v, closed, scale=scale)


@reference.without_autocast
def nystrom(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch S K"],
    v: Float[Tensor, "*batch S V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    scale: float | None = None,
    landmarks: int,
    iterations: int | None = None,
) -> Float[Tensor, "*batch T V"]:
    """The Nyström approximation of attention (Xiong et al. 2021, eq. 13), in time ``(T + S) · R``.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``.
        causal: must be off: every landmark holds the future.
        offset: not read, since nothing is causal.
        scale: factor on the scores; ``1/√K`` when left out.
        landmarks: R, the number of segments; at most ``T`` and ``S``.
        iterations: steps towards the pseudo-inverse (:func:`pseudo_inverse`); from the singular
            values when left out.

    Returns:
        One weighted sum of values a query; zeros where every key is closed. Its weights sum to
        about 1, and some may be negative.

    Raises:
        ValueError: as :func:`linformer`, or if there are more landmarks than tokens, or none.
    """
    reference.check_inputs(q, k, v)
    _refuse_causal(causal)
    T, S = q.shape[-2], k.shape[-2]
    if not 1 <= landmarks <= min(T, S):
        raise ValueError(f"need 1 to {min(T, S)} landmarks for T = {T}, S = {S}, got {landmarks}")
    mean_q = segment_means(landmarks, T, dtype=q.dtype, device=q.device)
    mean_k = segment_means(landmarks, S, dtype=k.dtype, device=k.device)
    open_keys = open_marks = None
    if mask is not None:
        keep = key_mask(mask, k)  # … S 1
        mean_k = mean_k * keep.mT
        share = mean_k.sum(-1, keepdim=True)  # … R 1
        open_keys, open_marks = keep.mT, (share > 0).mT
        mean_k = mean_k / share.masked_fill(share == 0, 1.0)  # the mean of the open keys
    marks_q, marks_k = mean_q @ q, mean_k @ k  # *batch R K
    left = reference.weights(q, marks_k, open_marks, scale=scale)  # *batch T R
    middle = reference.weights(marks_q, marks_k, open_marks, scale=scale)  # *batch R R
    right = reference.attention(marks_q, k, v, open_keys, scale=scale)  # *batch R V
    wide = middle.to(reference.sum_dtype(middle))
    inverse = _inverse(wide) if iterations is None else pseudo_inverse(wide, iterations)
    return left @ (inverse @ right.to(wide.dtype)).to(q.dtype)


def segment_means(
    R: int,
    S: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "R S"]:
    """The projection that averages ``R`` neighbouring segments, as equal in length as can be.

    Raises:
        ValueError: if ``R`` is not from 1 to ``S``.
    """
    if not 1 <= R <= S:
        raise ValueError(f"need 1 to {S} segments of {S} tokens, got {R}")
    segment = torch.arange(S, device=device) * R // S
    member = (segment == torch.arange(R, device=device)[:, None]).to(dtype)  # R S
    return member / member.sum(-1, keepdim=True)


def gaussian(
    R: int,
    S: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "R S"]:
    """A random projection with entries of variance ``1/R``, which keeps lengths on average.

    Where a learned projection starts. Drawn on the CPU, so that a seed means the same everywhere;
    it goes to ``device``, torch's default when left out.

    Raises:
        ValueError: if a size is below 1.
    """
    if R < 1 or S < 1:
        raise ValueError(f"need R ≥ 1 and S ≥ 1, got {R} and {S}")
    drawn = torch.randn(R, S, generator=generator, dtype=torch.float64, device="cpu") / R**0.5
    return drawn.to(device or torch.get_default_device(), dtype)


def pseudo_inverse(a: Float[Tensor, "*batch R R"], iterations: int) -> Float[Tensor, "*batch R R"]:
    """The Moore–Penrose inverse by matrix products alone (Xiong et al. 2021, eq. 11).

    The error shrinks to its third power at each step once it is small.

    Raises:
        ValueError: if the matrices are not square or not floating point, or ``iterations`` is
            negative.
    """
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.is_floating_point() or iterations < 0:
        raise ValueError(
            "need square matrices, floating point, and iterations ≥ 0, got "
            f"{tuple(a.shape)}, {a.dtype} and {iterations}"
        )
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    size = a.abs().sum(-1).amax(-1) * a.abs().sum(-2).amax(-1)  # *batch
    size = size.masked_fill(size == 0, 1.0)[..., None, None]
    z = a.mT / size
    for _ in range(iterations):
        az = a @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z


def _inverse(a: Tensor) -> Tensor:
    """The inverse by singular values, which are there for finite matrices alone; NaN for others."""
    finite = a.isfinite().all(-1).all(-1)[..., None, None]
    return torch.linalg.pinv(a.where(finite, 0.0)).masked_fill(~finite, float("nan"))


def _refuse_causal(causal: bool) -> None:
    if causal:
        raise ValueError("low-rank attention cannot be causal: every summary holds the future")


def _check_projection(name: str, x: Tensor, k: Tensor) -> None:
    if x.dtype != k.dtype:
        raise ValueError(f"{name} is {x.dtype} but the keys are {k.dtype}; give both one dtype")
    batch = tuple(k.shape[:-2])
    fits = x.ndim >= 2 and x.shape[-1] == k.shape[-2]
    if not fits or not masks.broadcasts(x.shape[:-2], batch):
        raise ValueError(
            f"{name} of shape {tuple(x.shape)} does not fit {k.shape[-2]} keys, batch {batch}"
        )

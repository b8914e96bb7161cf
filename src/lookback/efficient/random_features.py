"""Softmax attention estimated by random features, in linear time (FAVOR+, Choromanski et al. 2021).

The softmax kernel is an expectation over Gaussian ``ω`` (lemma 1 there):

    exp(q·k) = E[φ_ω(q) φ_ω(k)],   φ_ω(x) = exp(ω·x − ‖x‖²/2)

so with ``m`` draws, ``φ(q)·φ(k) / m`` is an unbiased estimate, and a positive one. Its variance is

    Var = exp(2 q·k) (exp(‖q + k‖²) − 1) / m

for independent draws, and less for draws at right angles to one another. Sines and cosines give an
unbiased estimate too, but one that can be negative where the kernel is small, which is where most
keys are.

The ratio that attention forms is biased. Where every estimate lies within a share ``δ < 1`` of its
kernel value, the output lies within ``2δ / (1 − δ) · max_j ‖v_j‖`` of softmax attention's.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookback.efficient import linear, reference


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
    omega: Float[Tensor, "m K"],
    form: str = "chunked",
    chunk: int = 64,
) -> Float[Tensor, "*batch T V"]:
    """An estimate of scaled dot-product attention, in time and memory linear in ``T + S``.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key may be attended to, the same for every query (a padding mask),
            broadcastable to ``(*batch, 1, S)``.
        causal: close every key after its query.
        offset: position of the first query, read where ``causal`` is set.
        scale: factor on the scores, positive; ``1/√K`` when left out.
        omega: the random draws, as :func:`draw` makes them; drawn anew from time to time while
            training, as the paper does, or once.
        form: as in :func:`lookback.efficient.linear.attention`.
        chunk: tokens in a chunk.

    Returns:
        One weighted sum of values a query; zeros for a query with nothing to attend to. Features
        of all keys are scaled by the largest one: beside a key some 80 nats above them, the
        others vanish in float32.

    Raises:
        ValueError: as :func:`lookback.efficient.linear.attention`, or if ``omega`` does not fit or
            the scale is not positive.
    """
    reference.check_inputs(q, k, v)
    dtype, wide = q.dtype, reference.sum_dtype(q)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if scale <= 0:
        raise ValueError(f"the scale is split between queries and keys: positive, got {scale}")
    q, k, v = q.to(wide) * scale**0.5, k.to(wide) * scale**0.5, v.to(wide)
    log_k = _log_features(k, omega)
    # a factor on a row of queries leaves the ratio as it is: exp(−‖q‖²/2) is not even computed
    log_q = q @ omega.to(q).mT
    if mask is not None:
        log_k = log_k.masked_fill(~linear.key_mask(mask, k), float("-inf"))
    # for the same reason, and since one on all keys does so too, the largest features become 1;
    # in place, since nothing else here is as large
    if q.numel():
        log_q.sub_(_finite(log_q.detach().amax(-1, keepdim=True)))
    if k.numel():
        log_k.sub_(_finite(log_k.detach().amax((-2, -1), keepdim=True)))
    options = {"causal": causal, "offset": offset, "form": form, "chunk": chunk}
    phi_q, phi_k = log_q.exp_(), log_k.exp_()
    return linear.attention(phi_q, phi_k, v, features="identity", **options).to(dtype)


def draw(
    m: int,
    K: int,
    *,
    orthogonal: bool = True,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "m K"]:
    """``m`` draws of a standard Gaussian vector of width ``K``.

    Args:
        m: number of draws, which is the width of the features.
        K: width of queries and keys.
        orthogonal: in groups of ``K``, let the directions stand at right angles; each draw alone
            is as before, and the variance of the estimate is smaller (section 3.2 of the paper).
        generator: of the draws; torch's own for the CPU when left out.
        dtype: of the result.
        device: where the result goes, torch's default when left out; drawn on the CPU, so that a
            seed means the same everywhere.

    Raises:
        ValueError: if ``m`` or ``K`` is below 1.
    """
    if m < 1 or K < 1:
        raise ValueError(f"need m ≥ 1 draws of width K ≥ 1, got {m} and {K}")
    options = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    omega = torch.randn(m, K, **options)
    if orthogonal:
        groups = -(-m // K)
        directions, r = torch.linalg.qr(torch.randn(groups, K, K, **options))
        # without the signs of R the directions would not be uniform on the sphere
        directions = directions * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
        directions = directions.mT.reshape(groups * K, K)[:m]
        omega = directions * omega.norm(dim=-1, keepdim=True)  # lengths as independent draws have
    return omega.to(device or torch.get_default_device(), dtype)


def features(x: Float[Tensor, "*batch T K"], omega: Float[Tensor, "m K"]) -> Tensor:
    """Positive random features ``exp(ω·x − ‖x‖²/2) / √m``, of shape ``(*batch, T, m)``.

    ``features(q, ω) @ features(k, ω).mT`` estimates ``exp(q·k)`` without bias.

    Raises:
        ValueError: if the widths differ, or ``x`` is not floating point.
    """
    return _log_features(x, omega).exp() / omega.shape[0] ** 0.5


def variance(
    q: Float[Tensor, "*batch T K"], k: Float[Tensor, "*batch S K"], m: int
) -> Float[Tensor, "*batch T S"]:
    """Variance of the estimate of ``exp(q·k)`` by ``m`` independent draws, for every pair.

    Orthogonal draws stay below it.

    Raises:
        ValueError: if ``m`` is below 1 or the shapes do not fit.
    """
    reference.check_inputs(q, k)
    if m < 1:
        raise ValueError(f"need m ≥ 1 draws, got {m}")
    product = q @ k.mT
    square = q.square().sum(-1)[..., :, None] + k.square().sum(-1)[..., None, :] + 2 * product
    return (2 * product).exp() * square.expm1() / m


def _log_features(x: Tensor, omega: Tensor) -> Tensor:
    if not x.is_floating_point() or x.ndim < 2:
        raise ValueError(f"need floating point (length, width), got {x.dtype} {tuple(x.shape)}")
    if omega.ndim != 2 or omega.shape[-1] != x.shape[-1] or omega.shape[0] < 1:
        raise ValueError(
            f"draws of shape {tuple(omega.shape)} do not fit width {x.shape[-1]}: need (m, width)"
        )
    omega = omega.to(x.device, x.dtype)
    return (x @ omega.mT).sub_(x.square().sum(-1, keepdim=True) / 2)  # *batch T m


def _finite(peak: Tensor) -> Tensor:
    return peak.masked_fill(peak == float("-inf"), 0.0)

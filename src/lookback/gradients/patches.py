"""What keeps a product of Jacobians in bounds: the start of ``W_hh``, and clipping the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def spectral_radius(W: Float[Tensor, "*batch D D"]) -> Float[Tensor, "*batch"]:
    """Largest absolute eigenvalue: the rate at which powers of ``W`` grow in the long run.

    At most the largest singular value, which bounds a single step. NaN where ``W`` is not finite.

    Raises:
        ValueError: if ``W`` is not square or not floating point.
    """
    if W.ndim < 2 or W.shape[-1] != W.shape[-2]:
        raise ValueError(f"only a square matrix has a spectral radius, got {tuple(W.shape)}")
    if not W.is_floating_point():
        raise ValueError(f"W must be floating point, got {W.dtype}")
    finite = W.isfinite().all(-1).all(-1)
    # an eigenvalue routine may end the process over a NaN
    wide = W.where(finite[..., None, None], 0.0).to(torch.promote_types(W.dtype, torch.float32))
    radius = torch.linalg.eigvals(wide).abs().amax(-1)
    return radius.masked_fill(~finite, float("nan")).to(W.dtype)


def with_spectral_radius(
    W: Float[Tensor, "*batch D D"], radius: float
) -> Float[Tensor, "*batch D D"]:
    """``W`` scaled so that its spectral radius is ``radius``.

    Raises:
        ValueError: if ``W`` is not square, its radius is 0, or ``radius`` is negative.
    """
    found = spectral_radius(W)
    if radius < 0:
        raise ValueError(f"a spectral radius cannot be negative, got {radius}")
    if (found == 0).any():
        raise ValueError("W has spectral radius 0: no factor gives it another")
    return W * (radius / found)[..., None, None]


def orthogonal(
    rows: int,
    columns: int | None = None,
    *,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "{rows} ..."]:
    """A random matrix whose shorter side is orthonormal, times ``gain`` (Saxe et al. 2014).

    Drawn evenly from all of them: the signs of R's diagonal are put back into Q (Mezzadri 2007).
    With one generator it equals :func:`torch.nn.init.orthogonal_`.

    Args:
        rows: number of rows.
        columns: number of columns; ``rows`` when left out.
        gain: factor; for a square matrix, its spectral radius and every singular value.
        generator: source of randomness; torch's own when left out.
        dtype, device: of the result; torch's defaults when left out.

    Raises:
        ValueError: if a size is below 1.
    """
    columns = rows if columns is None else columns
    if min(rows, columns) < 1:
        raise ValueError(f"a matrix needs rows and columns, got {rows} × {columns}")
    A = torch.randn(rows, columns, generator=generator, dtype=dtype, device=device)
    Q, R = torch.linalg.qr(A if rows >= columns else A.mT)
    Q = Q * R.diagonal().sign()
    return gain * (Q if rows >= columns else Q.mT)


def identity(
    D: int,
    *,
    gain: float = 1.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "{D} {D}"]:
    """The identity times ``gain``: the start that keeps a ReLU network's state (Le et al. 2015).

    Raises:
        ValueError: if ``D`` is below 1.
    """
    if D < 1:
        raise ValueError(f"a matrix needs a width of at least 1, got {D}")
    return gain * torch.eye(D, dtype=dtype, device=device)


def clip_by_global_norm(
    gradients: Sequence[Tensor | None], max_norm: float
) -> tuple[list[Tensor | None], Float[Tensor, ""]]:
    """Shorten all gradients by one factor, so that together they are at most ``max_norm`` long.

        g ← g · min(1, max_norm / (‖all g‖ + 10⁻⁶))       (Pascanu et al. 2013, algorithm 1)

    One factor for all keeps their direction; a gradient that is short enough stays as it is. The
    numbers are those of :func:`torch.nn.utils.clip_grad_norm_`, which writes in place.

    Args:
        gradients: one tensor a parameter; None, for a parameter out of use, stays None.
        max_norm: largest length of all gradients together, above 0.

    Returns:
        The clipped gradients, and the length before.

    Raises:
        ValueError: if ``max_norm`` is not positive, there is no gradient, or one is not floating
            point.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
    for g in gradients:
        if g is not None and not g.is_floating_point():
            raise ValueError(f"gradients must be floating point, got {g.dtype}")
    norms = [torch.linalg.vector_norm(g) for g in gradients if g is not None]
    if not norms:
        raise ValueError(f"none of {len(gradients)} parameters has a gradient")
    total = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    return [None if g is None else g * factor.to(g.device) for g in gradients], total

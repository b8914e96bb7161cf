"""Jacobians of one step of a recurrence, their products, and the rate at which these grow.

The state of a recurrence at step ``T`` depends on that of step ``t`` through a product of Jacobians

    ∂h_T/∂h_t = J_T J_{T−1} … J_{t+1},    J_k = ∂h_k/∂h_{k−1}    (Pascanu et al. 2013, eq. 5)

``D`` is the width of the state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lookback.recurrent import gru_step, lstm_step

NORMS = ("spectral", "frobenius")
_SLOPES = {
    "tanh": lambda h_t: 1 - h_t.square(),
    "relu": lambda h_t: (h_t > 0).to(h_t.dtype),
    "linear": torch.ones_like,
}


def slope(
    h_t: Float[Tensor, "*batch D"], *, nonlinearity: str = "tanh"
) -> Float[Tensor, "*batch D"]:
    """φ' where φ took the value ``h_t``: 1 − h_t² for tanh, 1 where h_t > 0 for relu, else 0.

    Args:
        h_t: state after the step.
        nonlinearity: φ: ``"tanh"``, ``"relu"`` or ``"linear"``.

    Raises:
        ValueError: if φ is unknown, or the state is not floating point.
    """
    if nonlinearity not in _SLOPES:
        known = ", ".join(_SLOPES)
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}; choose one of {known}")
    _check_floating("h_t", h_t)
    return _SLOPES[nonlinearity](h_t)


def rnn_jacobian(
    h_t: Float[Tensor, "*batch D"], W_hh: Float[Tensor, "D D"], *, nonlinearity: str = "tanh"
) -> Float[Tensor, "*batch D D"]:
    """∂h_t/∂h_{t−1} of a simple recurrent network: diag(φ'(a_t)) W_hh (Pascanu et al. 2013, eq. 5).

    Row ``m``, column ``n`` says how the new ``h[m]`` follows the old ``h[n]``. All states of a run,
    ``(T, D)``, give all its Jacobians, ``(T, D, D)``.

    Args:
        h_t: states *after* their step.
        W_hh: weights of the state, as in :func:`lookback.recurrent.rnn_step`.
        nonlinearity: φ, as in :func:`slope`.

    Raises:
        ValueError: if the widths differ, φ is unknown, or the state is not floating point.
    """
    D = h_t.shape[-1] if h_t.ndim else 0
    if tuple(W_hh.shape) != (D, D):
        raise ValueError(f"W_hh must be {(D, D)} for states of width {D}, got {tuple(W_hh.shape)}")
    return slope(h_t, nonlinearity=nonlinearity)[..., None] * W_hh


def step_jacobian(
    step: Callable[[Tensor], Tensor], state: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch M N"]:
    """The Jacobian of any step, by automatic differentiation, at each state of a batch.

    Args:
        step: maps one state ``(N,)`` to the next, ``(M,)``; everything else it needs it holds.
        state: where the Jacobian is taken.

    Raises:
        ValueError: if the state is not floating point.
    """
    _check_floating("state", state)
    jacobian = torch.func.jacrev(step)
    for _ in state.shape[:-1]:
        jacobian = torch.func.vmap(jacobian)
    return jacobian(state)


def lstm_jacobian(
    x_t: Float[Tensor, " I"],
    state: tuple[Float[Tensor, " D"], Float[Tensor, " D"]],
    *weights: Float[Tensor, "..."],
) -> Float[Tensor, "2*D 2*D"]:
    """∂(h_t, c_t)/∂(h_{t−1}, c_{t−1}) of an LSTM step, by automatic differentiation.

    The four blocks are ∂h_t/∂h, ∂h_t/∂c; ∂c_t/∂h, ∂c_t/∂c: the last one holds diag(f), the direct
    way along the cell.

    Args:
        x_t: input of this step.
        state: ``(h, c)`` before it.
        weights: ``W_ih, W_hh`` and, where there are any, ``b_ih, b_hh``.

    Raises:
        ValueError: if a shape does not fit.
    """
    h, c = state
    if h.ndim != 1 or c.shape != h.shape:
        shapes = f"{tuple(h.shape)} and {tuple(c.shape)}"
        raise ValueError(f"h and c must be one state each, (D,), got {shapes}")

    def step(state: Tensor) -> Tensor:
        return torch.cat(lstm_step(x_t, tuple(state.chunk(2)), *weights))

    return step_jacobian(step, torch.cat(state))


def gru_jacobian(
    x_t: Float[Tensor, " I"], h: Float[Tensor, " D"], *weights: Float[Tensor, "..."]
) -> Float[Tensor, "D D"]:
    """∂h_t/∂h_{t−1} of a GRU step. Args, Raises: as :func:`lstm_jacobian`."""
    return step_jacobian(lambda h: gru_step(x_t, h, *weights), h)


def jacobian_products(jacobians: Float[Tensor, "T *batch D D"]) -> Float[Tensor, "T+1 *batch D D"]:
    """∂h_T/∂h_{T−k} for every distance k = 0 … T: the identity, J_T, J_T J_{T−1}, …

    Args:
        jacobians: J_1 … J_T in the order of time.

    Raises:
        ValueError: if these are no square matrices, or there are none.
    """
    _check_jacobians(jacobians)
    D = jacobians.shape[-1]
    product = torch.eye(D, dtype=jacobians.dtype, device=jacobians.device)
    products = [product.expand(jacobians.shape[1:])]
    for J in reversed(jacobians):  # from the end: the earlier step stands on the right
        products.append(products[-1] @ J)
    return torch.stack(products)


def gradient_norm_by_distance(
    jacobians: Float[Tensor, "T *batch D D"], *, norm: str = "spectral"
) -> Float[Tensor, "T+1 *batch"]:
    """‖∂h_T/∂h_{T−k}‖ for k = 0 … T: how much of a gradient is left k steps back.

    Args:
        jacobians: J_1 … J_T in the order of time.
        norm: ``"spectral"`` (largest stretch of any direction; 1 at distance 0) or
            ``"frobenius"`` (√D at distance 0).

    Returns:
        One norm a distance; infinite or NaN where the product has left the range of its dtype.

    Raises:
        ValueError: if these are no square matrices, there are none, or the norm is unknown.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")
    products = jacobian_products(jacobians)
    if norm == "frobenius":
        return torch.linalg.matrix_norm(products)
    # singular values are there for finite matrices alone, and not in half precision
    finite = products.isfinite().all(-1).all(-1)
    wide = products.where(finite[..., None, None], 0.0)
    wide = wide.to(torch.promote_types(products.dtype, torch.float32))
    norms = torch.linalg.matrix_norm(wide, 2).to(products.dtype)
    return norms.where(finite, products.abs().amax((-2, -1)))


def lyapunov_rate(
    jacobians: Float[Tensor, "T *batch D D"], *, skip: int = 0
) -> Float[Tensor, "*batch"]:
    """Factor by which a product of Jacobians grows a step: it vanishes below 1, explodes above.

    The geometric mean of the growth of ‖J_k … J_1‖ (Frobenius) from step to step, renormalised at
    each, so that nothing under- or overflows (Benettin et al. 1980). Its logarithm is the largest
    Lyapunov exponent; for a linear recurrence it tends to the spectral radius of W_hh.

    Args:
        jacobians: J_1 … J_T in the order of time.
        skip: steps at the start that turn the product towards its fastest direction, not counted.

    Raises:
        ValueError: if these are no square matrices, or ``skip`` leaves none.
    """
    _check_jacobians(jacobians)
    if not 0 <= skip < len(jacobians):
        raise ValueError(f"skip must leave some of {len(jacobians)} Jacobians, got {skip}")
    D = jacobians.shape[-1]
    product = torch.eye(D, dtype=jacobians.dtype, device=jacobians.device) / D**0.5  # of norm 1
    total = jacobians.new_zeros(jacobians.shape[1:-2])
    for k, J in enumerate(jacobians):
        product = J @ product
        size = torch.linalg.matrix_norm(product)
        # a product that is zero stays zero: 0/tiny, where 0/0 would be NaN
        product = product / size.clamp_min(torch.finfo(size.dtype).tiny)[..., None, None]
        if k >= skip:
            total = total + size.log()
    return (total / (len(jacobians) - skip)).exp()


def _check_floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}")


def _check_jacobians(jacobians: Tensor) -> None:
    _check_floating("jacobians", jacobians)
    if jacobians.ndim < 3 or jacobians.shape[-1] != jacobians.shape[-2]:
        raise ValueError(f"Jacobians must be (T, …, D, D), got {tuple(jacobians.shape)}")
    if not len(jacobians):
        raise ValueError(f"a product needs a Jacobian or more, got {tuple(jacobians.shape)}")

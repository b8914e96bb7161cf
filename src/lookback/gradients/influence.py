"""How much an output follows an input, and a loss each use of a shared weight: by autograd.

These look at a model from outside, recurrent or not, so that one curve stands beside the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def influence(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "B T I"], i: int, j: int
) -> Float[Tensor, " B"]:
    """‖∂y_j/∂x_i‖ (Frobenius): how much output ``j`` follows input ``i``, for each example.

    Args, Raises: as :func:`influence_by_position`, and ``i`` is a position of the input.
    """
    reach = influence_by_position(f, x, j)
    if not -x.shape[1] <= i < x.shape[1]:
        raise ValueError(f"input {i} is out of range: there are {x.shape[1]}")
    return reach[:, i]


def influence_by_position(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "B T I"], j: int = -1
) -> Float[Tensor, "B T"]:
    """‖∂y_j/∂x_i‖ for every input position ``i``: the reach of one output, seen from outside.

    Takes one backward pass for each feature of the output.

    Args:
        f: the model: maps ``(B, T, I)`` to ``(B, T', O)``, each example by itself. Token ids have
            no gradient: give it their embeddings.
        x: where the derivative is taken.
        j: position of the output; the last when left out.

    Returns:
        One norm an example and input position; zero where the output does not depend on it.

    Raises:
        ValueError: if ``x`` is not ``(B, T, I)`` or not floating point, ``f`` does not return
            ``(B, T', O)``, or ``j`` is out of range.
    """
    if x.ndim != 3 or not x.is_floating_point():
        raise ValueError(f"input must be floating point (B, T, I), got {x.dtype} {tuple(x.shape)}")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)
        if not isinstance(y, Tensor) or y.ndim != 3 or len(y) != len(x):
            found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"f must return a tensor ({len(x)}, T, O), got {found}")
        if not -y.shape[1] <= j < y.shape[1]:
            raise ValueError(f"output {j} is out of range: there are {y.shape[1]}")
        square = x.new_zeros(x.shape[:2])
        if not y.requires_grad:
            return square
        # examples do not mix, so the gradient of a sum over the batch holds each one's own
        for feature in y[:, j].sum(0):
            (g,) = torch.autograd.grad(feature, x, retain_graph=True, allow_unused=True)
            square = square if g is None else square + g.square().sum(-1)
    return square.sqrt()


def weight_gradients_by_step(
    step: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Float[Tensor, "T *batch I"],
    state: Float[Tensor, "*batch D"],
    W: Float[Tensor, "..."],
    loss: Callable[[list[Tensor]], Float[Tensor, ""]],
) -> Float[Tensor, "T ..."]:
    """∂L/∂W split by the step that used ``W``: what each moment teaches a weight that all share.

    Every step gets a copy of its own; the copies' gradients add up to the ordinary ∂L/∂W.

    Args:
        step: maps an input, a state and the weight to the next state.
        x: inputs, time first.
        state: state before the first step.
        W: the shared weight.
        loss: maps the states after each step to a number.

    Returns:
        One gradient a step, ``(T, *W.shape)``.

    Raises:
        ValueError: if there is no step, or ``W`` is not floating point.
    """
    if not x.ndim or not len(x):
        raise ValueError(f"an empty sequence has no gradient: got shape {tuple(x.shape)}")
    if not W.is_floating_point():
        raise ValueError(f"W must be floating point, got {W.dtype}")
    with torch.enable_grad():
        copies = [W.detach().clone().requires_grad_() for _ in x]
        states: list[Tensor] = []
        for x_t, own in zip(x, copies, strict=True):
            state = step(x_t, state, own)
            states.append(state)
        grads = torch.autograd.grad(loss(states), copies, allow_unused=True)
    return torch.stack([torch.zeros_like(W) if g is None else g for g in grads])

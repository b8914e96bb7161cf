"""One step of an RNN, an LSTM and a GRU, as the equations say it.

``W_ih`` reads the input and ``W_hh`` the previous state; the gates of an LSTM or GRU lie stacked
along their first axis, in torch's order. Any batch axes, none included, may stand in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}


class Gates(NamedTuple):
    """The gates of one LSTM step, each ``(*batch, D)``: input, forget, candidate, output."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor


def rnn_step(
    x_t: Float[Tensor, "*batch I"],
    h: Float[Tensor, "*batch D"],
    W_ih: Float[Tensor, "D I"],
    W_hh: Float[Tensor, "D D"],
    b_ih: Float[Tensor, " D"] | None = None,
    b_hh: Float[Tensor, " D"] | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Float[Tensor, "*batch D"]:
    """One step of a simple recurrent network (Elman 1990).

        h_t = φ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh)

    Args:
        x_t: input of this step.
        h: state of the step before.
        W_ih, W_hh, b_ih, b_hh: weights of the input and of the state; no bias where left out.
        nonlinearity: φ: ``"tanh"``, ``"relu"`` or ``"linear"``.

    Returns:
        The new state.

    Raises:
        ValueError: if a shape does not fit, the input is not floating point, or φ is unknown.
    """
    _check(x_t, h, (W_ih, W_hh, b_ih, b_hh), gates=1)
    return activation(nonlinearity)(F.linear(x_t, W_ih, b_ih) + F.linear(h, W_hh, b_hh))


def lstm_step(
    x_t: Float[Tensor, "*batch I"],
    state: tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch D"]],
    W_ih: Float[Tensor, "4*D I"],
    W_hh: Float[Tensor, "4*D D"],
    b_ih: Float[Tensor, " 4*D"] | None = None,
    b_hh: Float[Tensor, " 4*D"] | None = None,
) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch D"]]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

        c_t = f ⊙ c_{t−1} + i ⊙ g
        h_t = o ⊙ tanh(c_t)             gates: :func:`lstm_gates`

    Args:
        x_t: input of this step.
        state: ``(h, c)`` of the step before: what the cell shows and what it keeps.
        W_ih, W_hh, b_ih, b_hh: weights, the four gates stacked in the order i, f, g, o.

    Returns:
        The new ``(h, c)``.

    Raises:
        ValueError: if a shape does not fit, or the input is not floating point.
    """
    h, c = state
    if c.shape != h.shape:
        raise ValueError(f"h has shape {tuple(h.shape)} but c has shape {tuple(c.shape)}")
    i, f, g, o = lstm_gates(x_t, h, W_ih, W_hh, b_ih, b_hh)
    c = f * c + i * g
    return o * torch.tanh(c), c


def lstm_gates(
    x_t: Float[Tensor, "*batch I"],
    h: Float[Tensor, "*batch D"],
    W_ih: Float[Tensor, "4*D I"],
    W_hh: Float[Tensor, "4*D D"],
    b_ih: Float[Tensor, " 4*D"] | None = None,
    b_hh: Float[Tensor, " 4*D"] | None = None,
) -> Gates:
    """What the gates of one LSTM step let through: i, f, o = σ(…), g = tanh(…) of one linear map.

    Args, Raises: as :func:`lstm_step`.
    """
    _check(x_t, h, (W_ih, W_hh, b_ih, b_hh), gates=4)
    i, f, g, o = (F.linear(x_t, W_ih, b_ih) + F.linear(h, W_hh, b_hh)).chunk(4, -1)
    return Gates(i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid())


def gru_step(
    x_t: Float[Tensor, "*batch I"],
    h: Float[Tensor, "*batch D"],
    W_ih: Float[Tensor, "3*D I"],
    W_hh: Float[Tensor, "3*D D"],
    b_ih: Float[Tensor, " 3*D"] | None = None,
    b_hh: Float[Tensor, " 3*D"] | None = None,
) -> Float[Tensor, "*batch D"]:
    """One step of a GRU (Cho et al. 2014), in the form of torch and cuDNN.

        r    = σ(W_ir x_t + b_ir + W_hr h_{t−1} + b_hr)
        z    = σ(W_iz x_t + b_iz + W_hz h_{t−1} + b_hz)
        n    = tanh(W_in x_t + b_in + r ⊙ (W_hn h_{t−1} + b_hn))
        h_t  = (1 − z) ⊙ n + z ⊙ h_{t−1}

    The reset gate acts *after* the product with W_hn, where the paper resets the state before it.

    Args:
        x_t: input of this step.
        h: state of the step before.
        W_ih, W_hh, b_ih, b_hh: weights, the three gates stacked in the order r, z, n.

    Returns:
        The new state.

    Raises:
        ValueError: if a shape does not fit, or the input is not floating point.
    """
    _check(x_t, h, (W_ih, W_hh, b_ih, b_hh), gates=3)
    r_x, z_x, n_x = F.linear(x_t, W_ih, b_ih).chunk(3, -1)
    r_h, z_h, n_h = F.linear(h, W_hh, b_hh).chunk(3, -1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h


def set_forget_bias_(lstm: nn.Module, value: float) -> None:
    """Open every forget gate of an LSTM at the start (Gers et al. 2000; Jozefowicz et al. 2015).

    A gate adds *two* biases: its part of ``bias_ih`` becomes ``value`` and that of ``bias_hh``
    zero, so that the gate starts near σ(value). Writes into the parameters, as ``torch.nn.init``
    does.

    Args:
        lstm: an LSTM of :mod:`lookback.recurrent` or of :mod:`torch.nn`.
        value: the sum of both biases. Over 50 steps σ(1) keeps 2·10⁻⁷ of a cell, σ(4) 40 %.

    Raises:
        ValueError: if the layer is no LSTM or has no biases.
    """
    D = getattr(lstm, "hidden_size", 0)
    biases = {name: p for name, p in lstm.named_parameters() if name.startswith("bias_")}
    if not biases or any(len(p) != 4 * D for p in biases.values()):
        raise ValueError(f"a forget bias needs an LSTM with biases, got {lstm}")
    with torch.no_grad():
        for name, p in biases.items():
            p[D : 2 * D] = value if name.startswith("bias_ih") else 0.0


def activation(nonlinearity: str) -> Callable[[Tensor], Tensor]:
    """φ by its name.

    Raises:
        ValueError: naming the known ones, if this is none of them.
    """
    if nonlinearity not in NONLINEARITIES:
        known = ", ".join(NONLINEARITIES)
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}; choose one of {known}")
    return NONLINEARITIES[nonlinearity]


def _check(
    x_t: Tensor, h: Tensor, weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None], gates: int
) -> None:
    """Refuse an input, a state and weights that do not fit together."""
    for name, x in {"input": x_t, "state": h}.items():
        if x.ndim < 1:
            raise ValueError(f"the {name} needs at least 1 axis, its width")
        if not x.is_floating_point():
            raise ValueError(f"the {name} must be floating point, got {x.dtype}")
    if x_t.shape[:-1] != h.shape[:-1]:
        shapes = f"input {tuple(x_t.shape[:-1])}, state {tuple(h.shape[:-1])}"
        raise ValueError(f"the batch axes differ: {shapes}")
    width, D = x_t.shape[-1], h.shape[-1]
    rows = gates * D
    wanted = {"W_ih": (rows, width), "W_hh": (rows, D), "b_ih": (rows,), "b_hh": (rows,)}
    for (name, shape), W in zip(wanted.items(), weights, strict=True):
        if W is not None and tuple(W.shape) != shape:
            found = f"input width {width}, state width {D} and {gates} blocks"
            raise ValueError(f"{name} must be {shape} for {found}, got {tuple(W.shape)}")

"""RNN, LSTM and GRU as layers: the loop over time, stacked, in one direction or both.

The loop is Python's, so that every step can be read, held back or differentiated. Parameters have
torch.nn's names, shapes and order: where only speed matters, give the same ``state_dict`` to torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lookback.recurrent.steps import (
    activation,
    gru_step,
    lstm_step,
    rnn_step,
    set_forget_bias_,
)


class _Recurrent(nn.Module):
    """The loop over time, layers and directions, whatever the step; :class:`RNN` says the rest."""

    gates: int  # blocks of D rows stacked in a weight
    parts: int = 1  # tensors of a state: h, or h and c

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1:
            sizes = f"input width {input_size}, state width {hidden_size}, {num_layers} layers"
            raise ValueError(f"sizes must be at least 1, got {sizes}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                width = hidden_size * self.directions if layer else input_size
                shapes = {"weight_ih": (width,), "weight_hh": (hidden_size,)}
                shapes |= {"bias_ih": (), "bias_hh": ()} if bias else {}
                for name, rest in shapes.items():
                    p = nn.Parameter(torch.empty(self.gates * hidden_size, *rest))
                    self.register_parameter(f"{name}_{suffix}", p)

    @property
    def directions(self) -> int:
        """2 where the sequence is also read backwards, else 1."""
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Uniform in ±1/√D, as torch's twins start: one seed gives both the same weights."""
        for p in self.parameters():
            nn.init.uniform_(p, -(self.hidden_size**-0.5), self.hidden_size**-0.5)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"

    def _step(self, x_t: Tensor, state: tuple[Tensor, ...], weights: tuple) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _unroll(
        self, x: Tensor, state: tuple[Tensor, ...] | None, lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Every layer over every step."""
        x = self._time_first(x)
        T, B = x.shape[:2]
        open_ = None if lengths is None else _open_steps(lengths, T, B)  # T B 1
        if open_ is not None:
            # what stands in the padding, NaN included, must reach neither outputs nor gradients
            x = x.masked_fill(~open_, 0.0)
        if state is None:
            shape = (self.num_layers * self.directions, B, self.hidden_size)
            state = (x.new_zeros(shape),) * self.parts
        self._check_state(state, B)
        last = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                start = tuple(s[layer * self.directions + direction] for s in state)
                y, end = self._loop(x, start, self._weights(suffix), direction == 1, open_)
                outputs.append(y)
                last.append(end)
            x = torch.cat(outputs, -1)  # T B directions·D
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        ends = tuple(torch.stack(s) for s in zip(*last, strict=True))
        return x.transpose(0, 1) if self.batch_first else x, ends

    def _loop(
        self,
        x: Tensor,
        state: tuple[Tensor, ...],
        weights: tuple,
        backwards: bool,
        open_: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction: outputs ``(T, B, D)`` and the state after the last step."""
        outputs = [x] * len(x)
        for t in reversed(range(len(x))) if backwards else range(len(x)):
            new = self._step(x[t], state, weights)
            if open_ is None:
                state, outputs[t] = new, new[0]
            else:  # a finished sequence keeps its state and shows zeros
                state = tuple(torch.where(open_[t], n, s) for n, s in zip(new, state, strict=True))
                outputs[t] = new[0].masked_fill(~open_[t], 0.0)
        return torch.stack(outputs), state

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.directions]

    def _weights(self, suffix: str) -> tuple[Tensor | None, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(getattr(self, f"{name}_{suffix}", None) for name in names)

    def _time_first(self, x: Tensor) -> Tensor:
        if x.ndim != 3:
            axes = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(f"input needs 3 axes {axes}, got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"input must be floating point, got {x.dtype}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"this layer reads width {self.input_size}, got {x.shape[-1]}")
        x = x.transpose(0, 1) if self.batch_first else x
        if not len(x):
            raise ValueError(f"an empty sequence has no state: got shape {tuple(x.shape)}")
        return x

    def _check_state(self, state: tuple[Tensor, ...], B: int) -> None:
        parts = [state] if isinstance(state, Tensor) else state
        if len(parts) != self.parts or not all(isinstance(s, Tensor) for s in parts):
            pair, one = "an LSTM is a pair of tensors (h, c)", "this layer is one tensor h"
            raise ValueError(f"the state of {pair if self.parts > 1 else one}")
        wanted = (self.num_layers * self.directions, B, self.hidden_size)
        for s in state:
            if tuple(s.shape) != wanted:
                raise ValueError(f"state must have shape {wanted}, got {tuple(s.shape)}")


class RNN(_Recurrent):
    """Simple recurrent network (Elman 1990): :func:`lookback.recurrent.rnn_step` over time.

    Takes and gives the ``state_dict`` of :class:`torch.nn.RNN` of the same sizes.

    Args:
        input_size, hidden_size: widths ``I`` of the input and ``D`` of the state.
        num_layers: layers, each reading the outputs of the one below.
        nonlinearity: ``"tanh"``, ``"relu"`` or (torch has no such twin) ``"linear"``.
        bias: whether steps add their two biases.
        batch_first: whether input and output are ``(B, T, …)`` or ``(T, B, …)``; states are
            ``(layers · directions, B, D)`` in both cases.
        dropout: share of the outputs dropped between layers, in training.
        bidirectional: whether every layer also reads from the end to the start.

    Raises:
        ValueError: if a size is below 1, ``dropout`` outside [0, 1), or φ unknown.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        activation(nonlinearity)  # refuses an unknown name now, not at the first step
        self.nonlinearity = nonlinearity
        self.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "_ _ I"],
        state: Float[Tensor, "L B D"] | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "_ _ O"], Float[Tensor, "L B D"]]:
        """Read whole sequences.

        Args:
            x: input, ``(B, T, I)``, or ``(T, B, I)`` without ``batch_first``.
            state: state before the first step, ``(layers · directions, B, D)``; zeros if left out.
            lengths: real steps of each sequence, 0 to ``T``. Behind them the state stands still
                and the output is zero, as with a packed sequence, and what the padding holds does
                not matter; the backward direction starts at the last real step.

        Returns:
            The outputs of the last layer, ``(B, T, directions · D)`` in the input's layout, and
            the state of every layer and direction after its last real step.

        Raises:
            ValueError: if a shape, a dtype or a length does not fit, or ``T`` is 0.
        """
        y, (h,) = self._unroll(x, None if state is None else (state,), lengths)
        return y, h

    def _step(self, x_t, state, weights):
        return (rnn_step(x_t, state[0], *weights, nonlinearity=self.nonlinearity),)


class LSTM(_Recurrent):
    """Long short-term memory: :func:`lookback.recurrent.lstm_step` over time.

    Takes and gives the ``state_dict`` of :class:`torch.nn.LSTM` of the same sizes.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as
            :class:`RNN`.
        forget_bias: what the two biases of every forget gate add up to at the start, as
            :func:`set_forget_bias_` writes it; as random as the others where left out.

    Raises:
        ValueError: if a size is below 1, ``dropout`` outside [0, 1), or a forget bias is asked of
            a layer without biases.
    """

    gates = 4
    parts = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.forget_bias = forget_bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√D, as torch's twin starts; then the forget bias, where one is given."""
        super().reset_parameters()
        if self.forget_bias is not None:
            set_forget_bias_(self, self.forget_bias)

    def forward(
        self,
        x: Float[Tensor, "_ _ I"],
        state: tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]] | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "_ _ O"], tuple[Float[Tensor, "L B D"], Float[Tensor, "L B D"]]]:
        """Read whole sequences. As :meth:`RNN.forward`, with a state ``(h, c)``."""
        return self._unroll(x, state, lengths)

    def _step(self, x_t, state, weights):
        return lstm_step(x_t, state, *weights)


class GRU(_Recurrent):
    """Gated recurrent unit: :func:`lookback.recurrent.gru_step` over time.

    Takes and gives the ``state_dict`` of :class:`torch.nn.GRU` of the same sizes.

    Args, Raises: as :class:`RNN`, without ``nonlinearity``.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "_ _ I"],
        state: Float[Tensor, "L B D"] | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "_ _ O"], Float[Tensor, "L B D"]]:
        """Read whole sequences. Args, Returns, Raises: as :meth:`RNN.forward`."""
        y, (h,) = self._unroll(x, None if state is None else (state,), lengths)
        return y, h

    def _step(self, x_t, state, weights):
        return (gru_step(x_t, state[0], *weights),)


def _open_steps(lengths: Tensor, T: int, B: int) -> Tensor:
    """True at the real steps of each sequence: ``(T, B, 1)``."""
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    if tuple(lengths.shape) != (B,):
        raise ValueError(f"{B} sequences need lengths of shape ({B},), got {tuple(lengths.shape)}")
    if B and not (0 <= int(lengths.min()) and int(lengths.max()) <= T):
        found = f"{int(lengths.min())} to {int(lengths.max())}"
        raise ValueError(f"lengths must lie in 0 to {T}, the padded length, but run from {found}")
    return (torch.arange(T, device=lengths.device)[:, None] < lengths)[..., None]

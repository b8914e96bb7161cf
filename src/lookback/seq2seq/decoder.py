"""The decoder: a recurrence over the target that may look back at the source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lookback.attention import alignment
from lookback.attention.inputs import check_tokens
from lookback.seq2seq.encoder import check_sizes, make_rnn

ORDERS = ("bahdanau", "luong")
CONTEXTS = ("each", "once")
STEPS = {"RNN_TANH": torch.rnn_tanh_cell, "GRU": torch.gru_cell, "LSTM": torch.lstm_cell}


@dataclass
class State:
    """What a decoder keeps from step to step; changed in place.

    Attributes:
        hidden: the recurrence's states, ``(L, N, H)`` each: ``(h,)``, or ``(h, c)`` for an LSTM.
        memory: the encoder's states, ``(N, S, W)``.
        mask: which of them are real, ``(N, 1, S)``; None where all are.
        keys: the attention's keys of the memory; None without attention.
        context: a context that stays: the final state of the encoder without attention, that of
            the first step where the config says ``"once"``.
        feed: the attentional state h̃ of the last step, ``(N, 1, H)``, for input feeding.
        weights: attention of the last step, ``(N, S)``; None without attention or before a step.
        length: target tokens read so far.
    """

    hidden: tuple[Tensor, ...]
    memory: Tensor
    mask: Tensor | None = None
    keys: Tensor | None = None
    context: Tensor | None = None
    feed: Tensor | None = None
    weights: Tensor | None = None
    length: int = 0

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Row ``i`` goes on from what row ``rows[i]`` holds; their number may change."""
        self.hidden = tuple(h[:, rows] for h in self.hidden)
        self.memory = self.memory[rows]
        for name in ("mask", "keys", "context", "feed", "weights"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value[rows])


class Decoder(nn.Module):
    """A recurrent decoder without attention, in Bahdanau's order, or in Luong's.

    Bahdanau et al. (2015, section 3.1): the previous state asks, and the context enters the cell:

        c_i = attend(s_{i-1}),    s_i = cell([E y_{i-1}; c_i], s_{i-1})

    Luong et al. (2015, section 3): the current state asks, and the context enters the output
    alone, or, with input feeding, the next step through h̃:

        h_t = cell([E y_{t-1}; h̃_{t-1}], h_{t-1}),    c_t = attend(h_t)

    In both, ``h̃ = tanh(W_c [c; h])`` and ``logits = W_s h̃``, so that orders and scores can be
    changed one at a time. (Bahdanau's own output layer is a maxout of more inputs.) Without
    attention, ``c`` is the encoder's final state: read at each step (Cho et al. 2014) or, with
    ``context="once"``, only as the start (Sutskever et al. 2014).

    Args:
        vocabulary: number of target tokens.
        memory_width: features of an encoder state.
        embedding: features of a token.
        hidden: features of a state.
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        layers: recurrences on top of one another; the top one asks.
        dropout: share dropped of embeddings, between layers and of h̃, in training.
        attention: one of :data:`lookback.attention.ALIGNMENTS`, or None.
        order: ``"bahdanau"`` or ``"luong"``; the former for ``"additive"`` when left out.
        input_feeding: whether h̃ enters the next step; Luong's order only.
        context: ``"each"``: anew at each step; ``"once"``: attention of the first step kept, or,
            without attention, only the start.
        window: reach of local attention, in positions to each side.
        tied: the output layer uses the embedding's weights (Press & Wolf 2017), which start with
            deviation ``1/√H`` and are multiplied by ``√H`` on the way in. Needs equal widths.

    Raises:
        ValueError: naming the value that is unknown, or the choices that do not go together.
    """

    def __init__(
        self,
        vocabulary: int,
        memory_width: int,
        *,
        embedding: int = 32,
        hidden: int = 64,
        cell: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
        attention: str | None = None,
        order: str | None = None,
        input_feeding: bool = False,
        context: str = "each",
        window: int = 10,
        tied: bool = False,
    ) -> None:
        super().__init__()
        order = order or ("bahdanau" if attention == "additive" else "luong")
        check_sizes("target", vocabulary, embedding)
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r}; choose one of {', '.join(ORDERS)}")
        if context not in CONTEXTS:
            raise ValueError(f"unknown context {context!r}; choose one of {', '.join(CONTEXTS)}")
        if input_feeding and (attention is None or order == "bahdanau"):
            raise ValueError(
                "input feeding hands on Luong's h̃: it needs attention in Luong's order, got "
                f"attention {attention!r} in order {order!r}"
            )
        if tied and embedding != hidden:
            raise ValueError(
                f"a tied output layer needs embedding and hidden of one width, got {embedding} and "
                f"{hidden}"
            )
        self.vocabulary, self.order, self.context = vocabulary, order, context
        self.input_feeding, self.dropout = input_feeding, dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.attention = None
        if attention is not None:
            self.attention = alignment(attention, hidden, memory_width, window=window)
        # the context enters the cell in Bahdanau's order, and where it is the encoder's last word
        self.context_in = order == "bahdanau" if self.attention else context == "each"
        context_out = self.attention is not None or context == "each"
        width = embedding + (memory_width if self.context_in else 0)
        self.rnn = make_rnn(cell, width + (hidden if input_feeding else 0), hidden, layers, dropout)
        self.W_c = nn.Linear(hidden + (memory_width if context_out else 0), hidden, bias=False)
        self.W_s = nn.Linear(hidden, vocabulary)
        self.scale = 1.0
        if tied:
            self.scale = hidden**0.5
            nn.init.normal_(self.embedding.weight, std=1 / self.scale)
            self.W_s.weight = self.embedding.weight

    def begin(
        self, memory: Float[Tensor, "N S W"], final: tuple[Tensor, ...], mask: Tensor | None = None
    ) -> State:
        """The state before the first target token."""
        state = State(final, memory, mask)
        if self.attention is not None:
            state.keys = self.attention.keys(memory)
        elif self.context == "each":
            state.context = final[0][-1][:, None]  # N 1 W: the top layer's last word
        if self.input_feeding:
            state.feed = memory.new_zeros(len(memory), 1, self.rnn.hidden_size)
        return state

    def forward(
        self, tokens: Int[Tensor, "N T"], state: State
    ) -> tuple[Float[Tensor, "N T V"], Float[Tensor, "N T S"] | None]:
        """Read the next target tokens of each row.

        Where no step needs the one before it, apart from the recurrence itself, all run at once.

        Args:
            tokens: what follows on what ``state`` has seen.
            state: from :meth:`begin`; changed in place.

        Returns:
            Logits of the token after each, and the weights of each step (None without attention).

        Raises:
            ValueError: if the tokens do not fit.
        """
        check_tokens(tokens, self.vocabulary)
        if len(tokens) != len(state.memory):
            raise ValueError(f"there are {len(state.memory)} sources but {len(tokens)} targets")
        x = self.embedding(tokens) * self.scale  # N T E
        x = F.dropout(x, self.dropout, self.training)
        serial = self.input_feeding or (self.context_in and self.attention is not None)
        steps = [self._step(x_t, state) for x_t in (x.split(1, 1) if serial else [x])]
        attentional = torch.cat([h for h, _ in steps], 1)  # N T H
        logits = self.W_s(F.dropout(attentional, self.dropout, self.training))
        if self.attention is None:
            return logits, None
        return logits, torch.cat([w for _, w in steps], 1)

    def _step(self, x: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        """One step, or, where nothing but the recurrence is serial, several."""
        T, weights, context = x.shape[1], None, state.context
        if self.attention is None:
            context = None if context is None else context.expand(-1, T, -1)
        elif self.order == "bahdanau":
            context, weights = self._look(state.hidden[0][-1][:, None], state)
        parts = [x, context] if self.context_in else [x]
        if self.input_feeding:
            parts.append(state.feed)
        h = self._recur(torch.cat(parts, -1), state)  # N T H
        if self.attention is not None and self.order == "luong":
            context, weights = self._look(h, state)
        attentional = torch.tanh(self.W_c(h if context is None else torch.cat([context, h], -1)))
        state.length += T
        if self.input_feeding:
            state.feed = attentional
        if weights is not None:
            state.weights = weights[:, -1]
        return attentional, weights

    def _look(self, query: Tensor, state: State) -> tuple[Tensor, Tensor]:
        if self.context == "each":
            return self._attend(query, state)
        if state.context is None:
            context, weights = self._attend(query[:, :1], state)
            state.context, state.weights = context, weights[:, 0]
        T = query.shape[1]
        return state.context.expand(-1, T, -1), state.weights[:, None].expand(-1, T, -1)

    def _attend(self, query: Tensor, state: State) -> tuple[Tensor, Tensor]:
        return self.attention(query, state.memory, state.mask, keys=state.keys, offset=state.length)

    def _recur(self, x: Tensor, state: State) -> Tensor:
        if x.shape[1] > 1:
            hidden = state.hidden if self.rnn.mode == "LSTM" else state.hidden[0]
            h, hidden = self.rnn(x, hidden)
            state.hidden = hidden if isinstance(hidden, tuple) else (hidden,)
            return h
        # one step: torch's cell functions take half the time of a layer called on one position
        y, new = x[:, 0], []
        for layer, weights in enumerate(self.rnn.all_weights):
            if layer:
                y = F.dropout(y, self.rnn.dropout, self.training)
            old = tuple(h[layer] for h in state.hidden)
            out = STEPS[self.rnn.mode](y, old if len(old) > 1 else old[0], *weights)
            new.append(out if isinstance(out, tuple) else (out,))
            y = new[-1][0]
        state.hidden = tuple(torch.stack(h) for h in zip(*new, strict=True))
        return y[:, None]

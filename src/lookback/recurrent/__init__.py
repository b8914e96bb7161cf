"""RNN, LSTM and GRU from their equations: one step (:mod:`.steps`), then the loop over time.

Batch first, as everywhere; ``I`` is the width of the input and ``D`` that of the state.
"""

from lookback.recurrent.layers import GRU, LSTM, RNN
from lookback.recurrent.steps import (
    NONLINEARITIES,
    Gates,
    activation,
    gru_step,
    lstm_gates,
    lstm_step,
    rnn_step,
    set_forget_bias_,
)

__all__ = [
    "GRU",
    "LSTM",
    "NONLINEARITIES",
    "RNN",
    "Gates",
    "activation",
    "gru_step",
    "lstm_gates",
    "lstm_step",
    "rnn_step",
    "set_forget_bias_",
]

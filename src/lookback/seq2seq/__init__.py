"""Recurrent encoder–decoders: without attention, with Bahdanau's, or with Luong's."""

from lookback.seq2seq.decoder import CONTEXTS, ORDERS, Decoder, State
from lookback.seq2seq.encoder import CELLS, Encoder
from lookback.seq2seq.model import Seq2Seq, shift_right

__all__ = [
    "CELLS",
    "CONTEXTS",
    "ORDERS",
    "Decoder",
    "Encoder",
    "Seq2Seq",
    "State",
    "shift_right",
]

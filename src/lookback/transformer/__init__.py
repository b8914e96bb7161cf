"""The Transformer: one config, one block, and three families over it."""

from lookback.transformer.block import Block, make_norm
from lookback.transformer.config import ACTIVATIONS, NORMS, POSITIONS, Config
from lookback.transformer.families import (
    POOLS,
    DecoderOnly,
    EncoderDecoder,
    EncoderOnly,
    count_parameters,
)
from lookback.transformer.norms import LayerNorm, RMSNorm
from lookback.transformer.stack import Embedding, Stack, State

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "POOLS",
    "POSITIONS",
    "Block",
    "Config",
    "DecoderOnly",
    "Embedding",
    "EncoderDecoder",
    "EncoderOnly",
    "LayerNorm",
    "RMSNorm",
    "Stack",
    "State",
    "count_parameters",
    "make_norm",
]

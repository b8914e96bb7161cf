"""From a model to text: greedy, at random, by beam.

What a model must offer is said in :mod:`lookback.decoding.protocol`.
"""

from lookback.decoding.beam import beam_search, length_normaliser
from lookback.decoding.protocol import Decoded, Model, State
from lookback.decoding.sampling import distribution, greedy, sample
from lookback.decoding.speculation import Speculation, accept, speculative

__all__ = [
    "Decoded",
    "Model",
    "Speculation",
    "State",
    "accept",
    "beam_search",
    "distribution",
    "greedy",
    "length_normaliser",
    "sample",
    "speculative",
]

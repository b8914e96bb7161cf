"""Reversal: write a list of symbols backwards. Every output is one known input: a gold alignment.

Drawn at random, of any size; no licence needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from lookback.data.loaders import Batch
from lookback.data.seeds import Seed, between, check_count, generator, span
from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD

FIRST = 4
"""The first symbol; the four special tokens stand before it."""


class Reversal(NamedTuple):
    """A batch over ``symbols`` + 4 classes, and which input each output copies.

    ``links`` is ``(n, T, S)``: True at the one source token that a target copies. The end token and
    the padding have none.
    """

    batch: Batch
    links: Bool[Tensor, "n T S"]


def sample(
    n: int, *, length: int | tuple[int, int] = (1, 14), symbols: int = 10, seed: Seed = 0
) -> Reversal:
    """Draw ``n`` lists and their reversals.

    Args:
        n: number of examples.
        length: symbols of a list; a pair is a range, both ends included, drawn for each list.
        symbols: different symbols.
        seed: an integer, or a generator that moves on.

    Raises:
        ValueError: if a size is below 1 or the range of lengths is empty.
    """
    check_count(n, symbols=symbols)
    low, high = span("length", length, 1)
    source = generator(seed)
    lengths = between(low, high, (n,), source)
    S = int(lengths.max())
    symbol = between(FIRST, FIRST + symbols - 1, (n, S), source)
    place = torch.arange(S, device=source.device)
    real = place < lengths[:, None]  # n S
    mirror = lengths[:, None] - 1 - place  # n S, the source of each target
    mirrored = symbol.gather(1, mirror.clamp_min(0))
    first = torch.full((n, 1), BOS, device=source.device)
    decoder_input = torch.cat([first, mirrored.masked_fill(~real, PAD)], 1)
    target = torch.cat([mirrored.masked_fill(~real, IGNORE), torch.full_like(first, IGNORE)], 1)
    target = target.scatter(1, lengths[:, None], EOS)
    links = torch.zeros(n, S + 1, S, dtype=torch.bool, device=source.device)
    links[:, :S] = (place == mirror[..., None]) & real[..., None]
    batch = Batch(symbol.masked_fill(~real, PAD), lengths, decoder_input, target)
    return Reversal(batch, links)

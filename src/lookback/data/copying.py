"""The copying task: hold a list of symbols through a long silence, then write it down.

Hochreiter and Schmidhuber 1997, in the form of Arjovsky et al. 2016, section 5.1. Drawn at random,
of any size; no licence needed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lookback.data.seeds import Seed, between, check_count, generator
from lookback.data.vocabulary import IGNORE

BLANK, GO, FIRST = range(3)
"""Nothing to read or write; the sign to start writing; the first of the symbols."""


class Copying(NamedTuple):
    """Both ``(n, T)`` with T = delay + 2 · length, over ``symbols`` + 2 classes."""

    tokens: Int[Tensor, "n T"]
    targets: Int[Tensor, "n T"]


def sample(
    n: int,
    *,
    length: int = 10,
    delay: int = 20,
    symbols: int = 8,
    blanks: bool = False,
    seed: Seed = 0,
) -> Copying:
    """Draw ``n`` lists to copy: the list, ``delay`` − 1 blanks, the sign, and blanks to write in.

    Every symbol is asked for ``length + delay`` steps after it was read.

    Args:
        n: number of examples.
        length: symbols of a list.
        delay: steps from the last symbol to the sign that asks for it.
        symbols: different symbols.
        blanks: whether the blanks before the list is due are targets too, as in the paper;
            otherwise they are ``IGNORE``.
        seed: an integer, or a generator that moves on.

    Raises:
        ValueError: if a size is below 1.
    """
    check_count(n, length=length, delay=delay, symbols=symbols)
    source = generator(seed)
    listed = between(FIRST, FIRST + symbols - 1, (n, length), source)
    tokens = torch.full((n, delay + 2 * length), BLANK, device=source.device)
    targets = torch.full_like(tokens, BLANK if blanks else IGNORE)
    tokens[:, :length] = listed
    tokens[:, length + delay - 1] = GO
    targets[:, -length:] = listed
    return Copying(tokens, targets)


def guess(*, length: int = 10, delay: int = 20, symbols: int = 8, blanks: bool = False) -> float:
    """Loss of a model without memory, in nats a scored position: it guesses at every symbol.

    log(symbols) where only symbols are scored; ``length · log(symbols) / (delay + 2 · length)``
    where blanks, which it writes without fail, are scored too (Arjovsky et al. 2016).

    Args, Raises: as :func:`sample`.
    """
    check_count(1, length=length, delay=delay, symbols=symbols)
    share = length / (delay + 2 * length) if blanks else 1.0
    return share * math.log(symbols)

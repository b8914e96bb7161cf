"""Key–value recall: read pairs, then name the value that went with a key.

How far back the answer stands (*distance*) and how many pairs must be held (*load*) are set apart:
the sequence has one length, the other pairs fall anywhere in it. Drawn at random, of any size; no
licence needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lookback.data.seeds import Seed, between, check_count, generator, span

FILLER = 0
"""Says nothing. Keys follow from 1 on, values after the last key."""


class Recall(NamedTuple):
    """Sequences over ``1 + keys + values`` classes.

    Attributes:
        tokens: ``(n, length + 1)``: pairs among fillers, and last the key that is asked for.
        target: ``(n,)``: its value, as a token.
        position: ``(n,)``: where that value stands; ``distance`` before the last token.
    """

    tokens: Int[Tensor, "n T"]
    target: Int[Tensor, " n"]
    position: Int[Tensor, " n"]


def sample(
    n: int,
    *,
    load: int,
    distance: int | tuple[int, int],
    length: int | None = None,
    keys: int = 16,
    values: int = 16,
    overwrite: bool = False,
    seed: Seed = 0,
) -> Recall:
    """Draw ``n`` sequences of ``load`` pairs, the answer exactly ``distance`` steps back.

    Args:
        n: number of examples.
        load: pairs in each sequence, all with different keys.
        distance: steps from the question back to the answer's value, at least 1; a pair is a
            range, both ends included, drawn for each example. Train on a range: at one distance a
            model may learn where to look instead of what to look for.
        length: tokens before the question; as short as holds every case when left out. Fix it to
            compare loads and distances at one length.
        keys, values: how many there are of each.
        overwrite: whether an earlier pair of the load has the same key and another value, which
            must be forgotten.
        seed: an integer, or a generator that moves on.

    Raises:
        ValueError: if a size is below 1, there are fewer keys than pairs, or the pairs do not fit.
    """
    check_count(n, load=load, keys=keys, values=values)
    low, high = span("distance", distance, 1)
    if keys < load:
        raise ValueError(f"{load} pairs need as many different keys, got {keys}")
    if overwrite and (load < 2 or values < 2):
        raise ValueError(f"overwriting needs 2 pairs and 2 values, got {load} and {values}")
    T = high + 2 * load - 1 if length is None else length
    if high + 1 > T:
        raise ValueError(f"an answer {high} steps back needs {high + 1} tokens, got {T}")
    source = generator(seed)
    position = T - between(low, high, (n,), source)
    keyed, free = _free_slots(position, T)  # n M each
    if int(free.sum(1).min()) < load - 1:
        found = int(free.sum(1).min())
        raise ValueError(f"{load} pairs do not fit: beside the answer {T} tokens hold {found}")
    priority = torch.rand(keyed.shape, generator=source, device=source.device)
    priority = priority.masked_fill(~free, 2.0)
    key = torch.rand(n, keys, generator=source, device=source.device).argsort(1)[:, :load]
    value = between(0, values - 1, (n, load), source)
    if overwrite:
        before = priority.masked_fill(keyed >= position[:, None], 2.0)
        if (before.amin(1) == 2.0).any():
            raise ValueError(f"an answer {high} steps back leaves no room before it in {T} tokens")
        priority = priority.scatter(1, before.argmin(1, keepdim=True), -1.0)  # taken first
        key[:, 1] = key[:, 0]
        value[:, 1] = (value[:, 0] + between(1, values - 1, (n,), source)) % values
    others = keyed.gather(1, priority.argsort(1)[:, : load - 1])
    place = torch.cat([position[:, None] - 1, others], 1)  # n load, where each key stands
    tokens = torch.full((n, T + 1), FILLER, device=source.device)
    tokens.scatter_(1, place, 1 + key).scatter_(1, place + 1, 1 + keys + value)
    tokens[:, -1] = 1 + key[:, 0]
    return Recall(tokens, 1 + keys + value[:, 0], position)


def _free_slots(position: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """Where a key may stand beside the answer's pair, and which of these places exist.

    Slots of two tokens, counted from the answer outwards: its pair takes ``position − 1`` and
    ``position``.
    """
    step = torch.arange(0, T, 2, device=position.device)
    before, after = position[:, None] - 3 - step, position[:, None] + 1 + step
    keyed = torch.cat([before, after], 1)
    return keyed, torch.cat([before >= 0, after + 1 < T], 1)

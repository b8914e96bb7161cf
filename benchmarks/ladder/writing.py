"""Translate sentences with a trained model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ladder.corpus import Subwords
from lookback.data.loaders import pad
from lookback.data.vocabulary import BOS, EOS
from lookback.decoding import beam_search, greedy

LENGTH_PENALTY = 1.0
"""Beams are ranked by log-probability over length to this power."""
LONGEST = 80
"""Subwords of a translation at most. No caption has as many."""


@torch.no_grad()
def translate(
    model: nn.Module,
    subwords: Subwords,
    sources: Sequence[str],
    *,
    width: int = 1,
    batch: int = 128,
) -> list[str]:
    """What the model writes for each source, in the order given.

    Args:
        model: in evaluation mode.
        subwords: what it reads and writes.
        sources: sentences.
        width: 1 for greedy decoding, more for a beam.
        batch: sentences decoded side by side, of similar length.
    """
    device = next(model.parameters()).device
    rows = subwords.encode(sources)
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))
    written: list[list[int]] = [[] for _ in rows]
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        source, lengths = pad([rows[n] for n in chosen])
        source, lengths = source.to(device), lengths.to(device)
        for n, tokens in zip(chosen, write(model, source, lengths, width), strict=True):
            written[n] = tokens
    return subwords.decode(written)


def write(model: nn.Module, source: Tensor, lengths: Tensor, width: int) -> list[list[int]]:
    """The tokens of each translation, end token included where it was written."""
    state = model.begin(source, lengths)
    prefix = source.new_full((len(source), 1), BOS)
    if width == 1:
        return greedy(model, state, prefix, steps=LONGEST, eos=EOS).lists()
    found = beam_search(
        model,
        state,
        prefix,
        steps=LONGEST,
        width=width,
        eos=EOS,
        length_penalty=LENGTH_PENALTY,
    )
    return [hypotheses[0] for hypotheses in found.lists()]

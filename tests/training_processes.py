"""A small training run that a launcher starts in as many processes as it likes; prints its losses.

Sequences of different lengths, so that each process counts other targets, and three pieces a step.
"""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from lookback.training import token_loss, train


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of 5, which two processes cannot share equally, with a third of padding."""
    draw = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(7):
        tokens = torch.randint(0, 9, (5, 6), generator=draw)
        hidden = torch.rand(5, 6, generator=draw) < 0.3
        batches.append((tokens, tokens.roll(1, 1).masked_fill(hidden, -100)))
    return batches


def run(checkpoint: str | None = None, steps: int = 6, batches: list | None = None) -> list[float]:
    """The losses of the run."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(48, 54))

    def loss(model, batch):
        tokens, targets = batch
        return token_loss(model(tokens).unflatten(-1, (6, 9)), targets)

    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    options = {"accumulate": 3, "clip": 0.5, "device": "cpu", "progress": False}
    options |= {"steps": steps, "checkpoint": checkpoint}
    history = train(model, loss, batches or data(), optimiser, **options)
    return history.loss


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], steps=4)
    losses = run(sys.argv[1])  # goes on from the checkpoint of both processes
    single = [tuple(x[:1] for x in batch) for batch in data()]
    with pytest.raises(ValueError, match="a batch of 1 examples cannot be shared by 2 processes"):
        run(batches=single)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        print(json.dumps(losses))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

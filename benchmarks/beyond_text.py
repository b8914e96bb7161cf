"""One block beyond text: images, sounds and purchases, with something planted in clutter.

Writes ``benchmarks/results/beyond_text.json``, one row a kind of data and seed. The same
encoder–decoder reads patches of an image, frames of a spectrum or items of a history, and writes
one word. Does it look at what was planted, and does it depend on it? About two minutes on one CPU
thread.

    OMP_NUM_THREADS=1 python benchmarks/beyond_text.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from lookback.data import digits
from lookback.training import one_cycle, token_loss, train
from lookback.transformer import Config, EncoderDecoder
from provenance import provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/beyond_text.py"
SEEDS = (0, 1, 2)
B, STEPS, RATE, TESTED = 64, 600, 3e-3, 600


class Planted(NamedTuple):
    """``source``: tokens ``(n, S)`` or vectors ``(n, S, I)``; ``planted`` ``(n, S)``: where the
    relevant part lies; ``label`` ``(n,)``."""

    source: Tensor
    planted: Tensor
    label: Tensor


def images(n: int, part: str, source: torch.Generator) -> Planted:
    """A handwritten digit among pieces of other digits: 16 × 16 pixels, 16 patches."""
    data = digits.load(part)
    pieces = digits.patches(data.images, 4).flatten(0, 1)  # of any digit, without its neighbours
    x = pieces[torch.randint(len(pieces), (n, 16), generator=source)]
    x = x * (torch.rand(n, 16, 1, generator=source) < 0.5)
    chosen = torch.randint(len(data.labels), (n,), generator=source)
    row, column = torch.randint(3, (2, n), generator=source)
    at = (4 * row + column)[:, None] + torch.tensor([0, 1, 4, 5])  # n 4
    x.scatter_(1, at[..., None].expand(n, 4, 16), digits.patches(data.images[chosen], 4))
    planted = torch.zeros(n, 16, dtype=torch.bool).scatter_(1, at, True)
    return Planted(x, planted, data.labels[chosen])


def sounds(n: int, part: str, source: torch.Generator) -> Planted:
    """A chord of two tones for four of 32 frames, among noise and single tones; ten chords."""
    x = 0.3 * torch.randn(n, 32, 16, generator=source).abs()
    single = torch.randint(16, (n, 32, 1), generator=source)
    x.scatter_add_(2, single, torch.ones(n, 32, 1))
    low, high = torch.triu_indices(5, 5, 1)  # ten pairs of five tones
    label = torch.randint(10, (n,), generator=source)
    start = torch.randint(29, (n, 1), generator=source)
    planted = (torch.arange(32) >= start) & (torch.arange(32) < start + 4)
    chord = torch.zeros(n, 16)
    for tone in (low, high):
        chord.scatter_(1, 3 * tone[label][:, None], 1.0)
    return Planted(torch.where(planted[..., None], x + chord[:, None], x), planted, label)


def histories(n: int, part: str, source: torch.Generator) -> Planted:
    """Twenty things bought, one of them a volume of a series; the next volume is bought next."""
    tokens = 60 + torch.randint(60, (n, 20), generator=source)
    series = torch.randint(10, (n,), generator=source)
    volume = torch.randint(5, (n,), generator=source)
    at = torch.randint(20, (n, 1), generator=source)
    tokens.scatter_(1, at, (6 * series + volume)[:, None])
    planted = torch.zeros(n, 20, dtype=torch.bool).scatter_(1, at, True)
    return Planted(tokens, planted, 6 * series + volume + 1)


KINDS: dict[str, tuple[Callable, dict, float]] = {  # how to draw, the config, guessing
    "image, digit": (images, {"input_width": 16, "target_vocabulary": 10}, 1 / 10),
    "sound, chord": (sounds, {"input_width": 16, "target_vocabulary": 10}, 1 / 10),
    "history, series": (histories, {"vocabulary": 120}, 1 / 50),
}


def start(batch: Planted) -> Tensor:
    """What the decoder reads before its only word."""
    return torch.zeros(len(batch.label), 1, dtype=torch.long)


def fit(kind: str, seed: int) -> nn.Module:
    draw, config, _ = KINDS[kind]
    torch.manual_seed(seed)
    model = EncoderDecoder(Config(D=64, H=4, layers=2, hidden=128, positions="learned", **config))
    source = torch.Generator().manual_seed(seed)
    train(
        model,
        lambda model, b: token_loss(model(b.source, start(b)), b.label[:, None]),
        [draw(B, "train", source) for _ in range(STEPS)],
        torch.optim.AdamW(model.parameters(), RATE),
        steps=STEPS,
        clip=1.0,
        schedule=one_cycle(STEPS),
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def judge(model: nn.Module, batch: Planted, others: Planted) -> dict[str, float]:
    """Accuracy, attention on the planted part, and accuracy without it or without as much else.

    What is taken away is filled from ``others``' clutter; attention is the decoder's, mean of heads
    and blocks.
    """

    def accuracy(source: Tensor) -> float:
        right = model(source, start(batch))[:, 0].argmax(-1) == batch.label
        return right.double().mean().item()

    def without(where: Tensor) -> float:
        draw = torch.rand(others.planted.shape, generator=torch.Generator().manual_seed(5))
        clutter_first = draw.masked_fill(others.planted, 2.0).argsort(1)
        filler = others.source.gather(1, _like(clutter_first, others.source))
        return accuracy(torch.where(_like(where, filler), filler, batch.source))

    maps = torch.stack([cross.mean(1)[:, 0] for _, cross in model.maps(batch.source, start(batch))])
    draw = torch.rand(batch.planted.shape, generator=torch.Generator().manual_seed(6))
    size = batch.planted.sum(1, keepdim=True)
    ranks = draw.masked_fill(batch.planted, 2.0).argsort(1).argsort(1)
    return {
        "accuracy": accuracy(batch.source),
        "share of the input that is planted": batch.planted.double().mean().item(),
        "attention on it": (maps.mean(0) * batch.planted).sum(1).mean().item(),
        "accuracy without it": without(batch.planted),
        "accuracy without as much clutter": without(ranks < size),
    }


def _like(index: Tensor, source: Tensor) -> Tensor:
    return index if source.ndim == 2 else index[..., None].expand_as(source)


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for kind, (draw, _, guessing) in KINDS.items():
        for seed in SEEDS:
            model = fit(kind, seed)
            batch, others = (
                draw(TESTED, "test", torch.Generator().manual_seed(s)) for s in (99, 98)
            )
            found = judge(model, batch, others) | {"guessing": guessing}
            rows.append({"name": kind, "seed": seed} | found | {"updates": STEPS} | origin)
            console.print(kind, seed, found, style="dim", soft_wrap=True)
    console.print(f"written to {write('beyond_text', rows)}")


if __name__ == "__main__":
    main()

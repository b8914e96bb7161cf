"""Five kinds of position on two tasks, trained on 16 tokens and tested on up to 128.

Writes ``benchmarks/results/positions.json``, one row a kind and seed, and for rotary positions one
a way of stretching them. At every position of a random sequence a small causal Transformer names
the symbol two back, and the first symbol of all. About three minutes on one CPU thread.

    OMP_NUM_THREADS=1 python benchmarks/positions.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from lookback.positions import Rotary
from lookback.training import one_cycle, train
from lookback.transformer import Config, Embedding, Stack
from provenance import provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/positions.py"
KINDS = ("none", "sinusoidal", "learned", "rotary", "alibi")
SCALINGS = ("linear", "ntk", "yarn")
SEEDS = (0, 1, 2)
LENGTHS = (16, 24, 32, 64, 128)
SYMBOLS, TRAINED, B, STEPS, RATE = 10, 16, 32, 400, 6e-3
JUDGED = 8  # the last positions of a sequence, where it is longest


class TwoTasks(nn.Module):
    """A causal Transformer with a read-out for each task; logits ``(B, T, 2, SYMBOLS)``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        # a table of positions needs rows for every tested length; those beyond 16 stay as drawn
        config = Config(vocabulary=SYMBOLS, D=32, H=4, layers=2, positions=kind, max_length=128)
        self.embedding = Embedding(config, SYMBOLS)
        self.stack = Stack(config, causal=True)
        self.read = nn.Linear(config.D, 2 * SYMBOLS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(self.stack(self.embedding(tokens))).unflatten(-1, (2, SYMBOLS))


def draw(n: int, T: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences ``(n, T)`` and both answers ``(n, T, 2)``."""
    tokens = torch.randint(SYMBOLS, (n, T), generator=source)
    return tokens, torch.stack([tokens.roll(2, 1), tokens[:, :1].expand(n, T)], -1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    tokens, answers = batch
    logits, wanted = model(tokens)[:, 2:], answers[:, 2:]  # before, nothing stands two back
    return F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="sum"), wanted.numel()


def fit(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model, source = TwoTasks(kind), torch.Generator().manual_seed(seed)
    train(
        model,
        loss,
        [draw(B, TRAINED, source) for _ in range(STEPS)],
        torch.optim.AdamW(model.parameters(), RATE),
        steps=STEPS,
        clip=1.0,
        schedule=one_cycle(STEPS),
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module) -> dict[str, list[float]]:
    """Share of right answers at the last positions, by task, for each length."""
    found = []
    for T in LENGTHS:
        tokens, answers = draw(300, T, torch.Generator().manual_seed(99))
        right = model(tokens).argmax(-1) == answers
        found.append(right[:, -JUDGED:].double().mean((0, 1)).tolist())
    return {"two back": [pair[0] for pair in found], "first token": [pair[1] for pair in found]}


def stretch(model: nn.Module, scaling: str, T: int) -> None:
    """Slow the rotation of a trained model down, so that ``T`` tokens fit where 16 did."""
    for block in model.stack.layers:
        K = block.self_attn.rotary.K
        block.self_attn.rotary = Rotary(
            K, scaling=scaling, factor=max(T / TRAINED, 1.0), trained_length=TRAINED
        )


def stretched(model: nn.Module, scaling: str) -> dict[str, list[float]]:
    """Accuracy where the rotation is slowed by just what each length needs."""
    found: dict[str, list[float]] = {"two back": [], "first token": []}
    for i, T in enumerate(LENGTHS):
        stretch(model, scaling, T)
        for task, by_length in accuracy(model).items():
            found[task].append(by_length[i])
    return found


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    settings = {"trained length": TRAINED, "steps": STEPS, "rate": RATE, "symbols": SYMBOLS}
    for kind in KINDS:
        for seed in SEEDS:
            model = fit(kind, seed)
            ways = {kind: accuracy(model)}
            if kind == "rotary":
                ways |= {f"rotary, {s}": stretched(model, s) for s in SCALINGS}
            for name, found in ways.items():
                rows.append({"name": name, "seed": seed, "lengths": LENGTHS} | found)
                rows[-1] |= {"settings": settings} | origin
                console.print(name, seed, found, style="dim")
    console.print(f"written to {write('positions', rows)}")


if __name__ == "__main__":
    main()

"""Subject and verb far apart: who keeps the number of the subject, and who learns to?

Writes ``benchmarks/results/agreement.json``, one row a setting, model and seed. Trained on mixed
distances a model only has to carry one bit; trained at one long distance alone it has to find out
what to carry. About six minutes on one CPU thread.

    OMP_NUM_THREADS=1 python benchmarks/agreement.py
"""

from __future__ import annotations

import torch
from rich.console import Console
from torch import Tensor, nn

from lookback.data import agreement
from lookback.data.agreement import WORDS
from lookback.training import token_loss, train
from lookback.transformer import Config, DecoderOnly
from provenance import provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/agreement.py"
SEEDS = (0, 1, 2)
D, B, STEPS, RATE, TESTED = 32, 64, 400, 3e-3, 1000
KINDS = ("RNN", "LSTM", "GRU", "Transformer")
SETTINGS = {  # name → distances in training, depth, distances in the test
    "distances 1 to 20": ((1, 20), 1, (1, 5, 10, 20, 40, 80)),
    "distance 5 only": ((5, 5), 1, (5,)),
    "distance 10 only": ((10, 10), 1, (10,)),
    "distance 20 only": ((20, 20), 1, (20,)),
    "distance 80 only": ((80, 80), 1, (80,)),
    "nested twice, distances 4 to 20": ((4, 20), 2, (4, 10, 20, 40)),
}


class Reader(nn.Module):
    """A recurrence, or a Transformer of one block; two logits a token."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "Transformer":
            # ALiBi has no last position, so that longer sentences can be read
            config = Config(vocabulary=len(WORDS), D=D, H=2, layers=2, hidden=D, positions="alibi")
            self.model, self.embed = DecoderOnly(config), None
            self.read = nn.Linear(len(WORDS), 2)
        else:
            self.embed = nn.Embedding(len(WORDS), D)
            self.model, self.read = getattr(nn, kind)(D, D, batch_first=True), nn.Linear(D, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.embed is None:
            return self.read(self.model(tokens))
        return self.read(self.model(self.embed(tokens))[0])  # B T 2


def draw(n: int, distance: tuple[int, int], depth: int, source: torch.Generator):
    """A batch at one distance, so that no example is padded by many fillers."""
    low, high = distance
    at = int(torch.randint(low, high + 1, (1,), generator=source))
    return agreement.sample(n, distance=at, depth=depth, seed=source)


def fit(kind: str, distance: tuple[int, int], depth: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model, source = Reader(kind), torch.Generator().manual_seed(seed)
    train(
        model,
        lambda model, batch: token_loss(model(batch.tokens), batch.targets),
        [draw(B, distance, depth, source) for _ in range(STEPS)],
        torch.optim.Adam(model.parameters(), RATE),
        steps=STEPS,
        clip=1.0,
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, distance: int, depth: int) -> float:
    """Share of last verbs, those of the first subject, that got the right number."""
    batch = agreement.sample(TESTED, distance=distance, depth=depth, seed=99)
    right = model(batch.tokens)[:, -1].argmax(-1) == batch.targets[:, -1]
    return right.double().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for setting, (trained, depth, tested) in SETTINGS.items():
        for kind in KINDS:
            for seed in SEEDS:
                model = fit(kind, trained, depth, seed)
                found = [accuracy(model, distance, depth) for distance in tested]
                rows.append({"name": f"{setting}, {kind}", "setting": setting, "kind": kind})
                rows[-1] |= {"seed": seed, "distances": tested, "accuracy": found}
                rows[-1] |= {"updates": STEPS} | origin
                console.print(setting, kind, seed, found, style="dim", soft_wrap=True)
    console.print(f"written to {write('agreement', rows)}")


if __name__ == "__main__":
    main()

"""How many updates each recurrence needs until it adds two numbers far apart.

Writes ``benchmarks/results/adding_task.json``, one row a recurrence and length. A run stops when it
has learned the task or used up its updates; a recurrence that never learned a length is not tried
at a longer one. About five minutes on one CPU thread.

    OMP_NUM_THREADS=1 python benchmarks/adding_task.py
"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from torch import Tensor, nn

from lookback.data import adding
from lookback.recurrent import set_forget_bias_
from provenance import ROOT, provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/adding_task.py"

LENGTHS, SEEDS = (50, 100, 200), (0, 1, 2)
D, B, MOST_UPDATES, EVERY = 32, 32, 1500, 50
LEARNED = 0.01  # mean squared error; always answering 1 gives 1/6

KINDS = {  # name → recurrence, learning rate
    "tanh": ("tanh", 3e-3),
    "relu, identity start": ("identity", 3e-3),
    "lstm, forget bias 1": (1.0, 1e-2),
    "lstm, forget bias 4": (4.0, 1e-2),
    "gru": ("gru", 1e-2),
}


class Adder(nn.Module):
    """A recurrence of torch that answers with a number after its last step."""

    def __init__(self, kind: str | float) -> None:
        super().__init__()
        self.recurrence = recurrence(kind)
        self.read = nn.Linear(D, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.recurrence(x)[0][:, -1])[:, 0]


def recurrence(kind: str | float) -> nn.Module:
    """A layer by its kind; a number is an LSTM with this forget bias."""
    if kind == "gru":
        return nn.GRU(2, D, batch_first=True)
    if isinstance(kind, float):
        lstm = nn.LSTM(2, D, batch_first=True)
        set_forget_bias_(lstm, kind)
        return lstm
    layer = nn.RNN(2, D, batch_first=True, nonlinearity="tanh" if kind == "tanh" else "relu")
    if kind == "identity":  # the start of Le et al. 2015
        nn.init.eye_(layer.weight_hh_l0)
        nn.init.normal_(layer.weight_ih_l0, std=0.01)
        nn.init.zeros_(layer.bias_ih_l0)
        nn.init.zeros_(layer.bias_hh_l0)
    return layer


def fit(kind: str | float, rate: float, T: int, seed: int) -> tuple[int | None, float]:
    """Updates until the task was learned (None: never), and the last error."""
    torch.manual_seed(seed)
    model, source = Adder(kind), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    held_out = adding.sample(500, T, seed=10_000 + seed)
    for update in range(1, MOST_UPDATES + 1):
        x, y = adding.sample(B, T, seed=source)
        loss = (model(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if update % EVERY == 0:
            with torch.no_grad():
                error = (model(held_out.x) - held_out.y).square().mean().item()
            if error < LEARNED:
                return update, error
    return None, error


def row(name: str, T: int, origin: dict) -> dict[str, object]:
    """Train a recurrence at one length from every seed."""
    kind, rate = KINDS[name]
    began = time.perf_counter()
    runs = [fit(kind, rate, T, seed) for seed in SEEDS]
    return {
        "name": f"{name}, T = {T}",
        "kind": name,
        "T": T,
        "learned": sum(updates is not None for updates, _ in runs),
        "updates": [updates for updates, _ in runs],
        "error": [error for _, error in runs],
        "settings": {"D": D, "B": B, "rate": rate, "clip": 1.0, "most updates": MOST_UPDATES},
        "seconds": time.perf_counter() - began,
        "seeds": SEEDS,
        **origin,
    }


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for name in KINDS:
        for T in LENGTHS:
            rows.append(row(name, T, origin))
            found = ", ".join(f"{error:.4f}" for error in rows[-1]["error"])
            told = f"{rows[-1]['learned']} of {len(SEEDS)} learned"
            console.print(f"{rows[-1]['name']}: {told}, errors {found}", style="dim")
            if not rows[-1]["learned"]:
                break
    path = write("adding_task", rows)
    console.print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

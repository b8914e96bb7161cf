"""Every kind of attention in a recurrent decoder, on one task, one budget and the same seeds.

Writes ``benchmarks/results/recurrent_attention.json``, one row a model. The task is to write a list
of symbols backwards; models differ in the one thing that their name says. About four minutes on one
CPU thread.

    OMP_NUM_THREADS=1 python benchmarks/recurrent_attention.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from rich.console import Console
from torch import Tensor

from lookback import metrics
from lookback.data import reversal
from lookback.data.loaders import Batch
from lookback.data.vocabulary import BOS
from lookback.decoding import greedy
from lookback.seq2seq import Seq2Seq
from lookback.training import one_cycle, token_loss, train
from provenance import ROOT, provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/recurrent_attention.py"

SYMBOLS, LONGEST, B, STEPS, RATE = 10, 14, 32, 400, 7.5e-3
SEEDS = (0, 1, 2)
LENGTHS = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
JUDGED = 12  # length at which the alignment is judged
WINDOW = 3

KINDS = {
    "no attention": {},
    "additive, previous state": {"attention": "additive"},
    "general, previous state": {"attention": "general", "order": "bahdanau"},
    "dot, previous state": {"attention": "dot", "order": "bahdanau"},
    "concat, current state": {"attention": "concat"},
    "general, current state": {"attention": "general"},
    "dot, current state": {"attention": "dot"},
    "general, input feeding": {"attention": "general", "input_feeding": True},
    "local-m, current state": {"attention": "local-m", "window": WINDOW},
    "local-p, current state": {"attention": "local-p", "window": WINDOW},
}


def batches(seed: int) -> Iterator[Batch]:
    """Lists of one length a batch, drawn from 1 to ``LONGEST``."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        length = int(torch.randint(1, LONGEST + 1, (1,), generator=generator))
        yield reversal.sample(B, length=length, symbols=SYMBOLS, seed=generator).batch


def loss(model: Seq2Seq, batch: Batch) -> tuple[Tensor, Tensor]:
    return token_loss(model(batch.source, batch.decoder_input)[0], batch.target)


def fit(seed: int, kind: dict[str, object]) -> tuple[Seq2Seq, float]:
    """A trained model, and the seconds that its training took."""
    torch.manual_seed(seed)
    classes = SYMBOLS + reversal.FIRST
    model = Seq2Seq(classes, classes, cell="lstm", **kind)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    data = list(batches(seed))
    began = time.perf_counter()
    train(
        model,
        loss,
        data,
        optimiser,
        steps=STEPS,
        clip=1.0,
        schedule=one_cycle(STEPS),
        progress=False,
    )
    return model.eval(), time.perf_counter() - began


def accuracies(model: Seq2Seq, length: int) -> tuple[float, float]:
    """Share of right symbols, and of lists without a mistake, when the model writes by itself."""
    batch = reversal.sample(200, length=length, symbols=SYMBOLS, seed=99).batch
    first = torch.full((200, 1), BOS)
    written = greedy(model, model.begin(batch.source), first, steps=length).tokens
    wanted = batch.target[:, :length]
    return metrics.accuracy(written, wanted), metrics.exact_match(written, wanted)


@torch.no_grad()
def alignment(model: Seq2Seq) -> dict[int, float]:
    """Offset from the gold link → error rate of the alignment, at one length."""
    batch, links = reversal.sample(200, length=JUDGED, symbols=SYMBOLS, seed=99)
    _, weights = model(batch.source, batch.decoder_input)
    found = metrics.strongest_links(weights, links.any(-1))
    return {
        offset: metrics.alignment_error_rate(found, links.roll(offset, -1))
        for offset in (-2, -1, 0, 1, 2)
    }


def row(name: str, kind: dict[str, object], origin: dict) -> dict[str, object]:
    """Train a kind from every seed and judge it."""
    runs = [fit(seed, kind) for seed in SEEDS]
    found = [[accuracies(model, length) for length in LENGTHS] for model, _ in runs]
    judged = [alignment(model) for model, _ in runs] if kind else []
    return {
        "name": name,
        "settings": kind,
        "parameters": sum(p.numel() for p in runs[0][0].parameters()),
        "lengths": LENGTHS,
        "accuracy": [[symbols for symbols, _ in run] for run in found],
        "exact match": [[whole for _, whole in run] for run in found],
        "alignment error": [run[0] for run in judged],
        "alignment error by offset": judged,
        "training seconds": [seconds for _, seconds in runs],
        "seeds": SEEDS,
        **origin,
    }


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for name, kind in KINDS.items():
        rows.append(row(name, kind, origin))
        at_12 = [f"{run[LENGTHS.index(JUDGED)]:.2f}" for run in rows[-1]["accuracy"]]
        aligned = [f"{x:.2f}" for x in rows[-1]["alignment error"]]
        console.print(f"{name}: accuracy {at_12}, alignment error {aligned}", style="dim")
    path = write("recurrent_attention", rows)
    console.print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

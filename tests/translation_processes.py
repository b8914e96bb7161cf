"""A small run of the translation ladder that a launcher starts in as many processes as it likes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from ladder.corpus import Corpus
from ladder.fit import Run, fit
from ladder.kinds import Kind, Recipe, recurrent, transformer
from lookback.data import phrases

RECIPE = Recipe(subwords=80, epochs=3, batch=16, warmup=2, precision="float32")
# dropout draws other numbers in each process
KINDS = {
    "bahdanau": Kind("small", recurrent(12, cell="gru", attention="additive") | {"dropout": 0.0}),
    "transformer": Kind("small", transformer(12, H=2, layers=1, hidden=12), transformer=True),
}


def corpus(count: int = 48) -> Corpus:
    """Phrases whose grammar is known, written as captions are."""
    drawn = phrases.sample(count + 16, seed=0)
    pairs = [(" ".join(p.target).capitalize() + ".", " ".join(p.source) + ".") for p in drawn]
    return Corpus(pairs[:count], pairs[count : count + 8], pairs[count + 8 :])


def run(folder: Path, kind: str = "bahdanau", **options) -> dict[str, object]:
    """Losses, validation values and the sum of the best weights."""
    torch.set_num_threads(1)
    where = Run("fr-en", kind, 0, Path(folder))
    model, _, history = fit(where, KINDS[kind], RECIPE, corpus(), progress=False, **options)
    weights = [float(p.detach().double().abs().sum()) for p in model.parameters()]
    return {"loss": history.loss, "validation": history.validation, "weights": weights}


if __name__ == "__main__":
    found = run(Path(sys.argv[1]), sys.argv[2])
    if torch.distributed.get_rank() == 0:
        print(json.dumps(found))
    torch.distributed.destroy_process_group()

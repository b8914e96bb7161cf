"""What each part of the training recipe does for an encoder–decoder that reads dates.

Writes ``benchmarks/results/training_recipe.json``, one row a recipe: exact match and loss on dates
that training did not see, and the gradient's norm along the way. A few minutes on one
CPU thread. Recipes whose rows are there already are left out: delete the file to start anew.

    OMP_NUM_THREADS=1 python benchmarks/training_recipe.py
"""

from __future__ import annotations

import json
import time

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from lookback.data import dates
from lookback.data.loaders import Batch, collate, pair_loader
from lookback.data.vocabulary import BOS, EOS, IGNORE, Vocabulary
from lookback.decoding import greedy
from lookback.training import History, cosine, token_loss, train
from lookback.transformer import Config, EncoderDecoder
from provenance import RESULTS, ROOT, provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/training_recipe.py"

SEEDS, B, RATE = (0, 1, 2), 32, 5e-3
BASE = {
    "layers": 1,
    "steps": 400,
    "tied": False,
    "warmup": 50,
    "smoothing": 0.0,
    "clip": 1.0,
}
RECIPES = {  # name → what differs from BASE
    "base": {},
    "no warm-up": {"warmup": 0},
    "label smoothing 0.1": {"smoothing": 0.1},
    "tied weights": {"tied": True},
    "no clipping": {"clip": None},
}

TRAINING, HELD_OUT = dates.sample(4000, seed=0), dates.sample(500, seed=1)
SOURCE = Vocabulary.build(example.source for example in TRAINING)
TARGET = Vocabulary.build(example.target for example in TRAINING)


def encoded(examples: list[dates.Date]) -> list[tuple[list[int], list[int]]]:
    """Numbers of both sides."""
    return [(SOURCE.encode(e.source), TARGET.encode(e.target)) for e in examples]


def fit(recipe: dict, seed: int) -> tuple[EncoderDecoder, History]:
    """Train one model by one recipe."""
    torch.manual_seed(seed)
    config = Config(
        vocabulary=len(SOURCE),
        target_vocabulary=len(TARGET),
        layers=recipe["layers"],
        hidden=128,
        tied=recipe["tied"],
    )
    model = EncoderDecoder(config)
    optimiser = torch.optim.Adam(model.parameters(), RATE, betas=(0.9, 0.98), fused=True)

    def loss(model: EncoderDecoder, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.source, batch.decoder_input, batch.source_lengths)
        summed = F.cross_entropy(
            logits.mT,
            batch.target,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=recipe["smoothing"],
        )
        return summed, (batch.target != IGNORE).sum()

    history = train(
        model,
        loss,
        pair_loader(encoded(TRAINING), B, seed=seed),
        optimiser,
        steps=recipe["steps"],
        clip=recipe["clip"],
        schedule=cosine(recipe["steps"], warmup=recipe["warmup"]),
        progress=False,
    )
    return model.eval(), history


@torch.no_grad()
def judged(model: EncoderDecoder) -> dict[str, float]:
    """Exact match, loss and confidence on dates that training did not see."""
    batch = collate(encoded(HELD_OUT))
    logits = model(batch.source, batch.decoder_input, batch.source_lengths)
    summed, count = token_loss(logits, batch.target)
    real = batch.target != IGNORE
    top, best = logits.softmax(-1).max(-1)
    begin = torch.full((len(HELD_OUT), 1), BOS)
    state = model.begin(batch.source, batch.source_lengths, capacity=16)
    written = greedy(model, state, begin, steps=12, eos=EOS).lists()
    pairs = zip(written, HELD_OUT, strict=True)
    exact = sum("".join(TARGET.decode(ids)) == example.target for ids, example in pairs)
    return {
        "exact": exact / len(HELD_OUT),
        "loss": (summed / count).item(),
        "accuracy": (best == batch.target)[real].double().mean().item(),
        "confidence": top[real].double().mean().item(),
    }


def row(name: str, origin: dict) -> dict[str, object]:
    """One recipe, trained from every seed."""
    recipe = BASE | RECIPES[name]
    began = time.perf_counter()
    scores: dict[str, list] = {"exact": [], "loss": [], "accuracy": [], "confidence": []}
    first, curves = [], []
    for seed in SEEDS:
        model, history = fit(recipe, seed)
        for key, value in judged(model).items():
            scores[key].append(value)
        first.append(max(history.gradient_norm[:50]))
        curves.append([sum(history.loss[n : n + 10]) / 10 for n in range(0, recipe["steps"], 10)])
    return {
        "name": name,
        **scores,
        "largest gradient norm, first 50 steps": first,
        "curves": [[round(x, 4) for x in curve] for curve in curves],
        "settings": {"D": 64, "H": 4, "hidden": 128, "B": B, "rate": RATE} | recipe,
        "seconds": time.perf_counter() - began,
        "seeds": SEEDS,
        **origin,
    }


def main() -> None:
    torch.set_num_threads(1)
    console, origin = Console(), provenance(COMMAND)
    found = RESULTS / "training_recipe.json"
    rows = json.loads(found.read_text("utf-8")) if found.is_file() else []
    done = {row["name"] for row in rows}
    for name in [name for name in RECIPES if name not in done]:
        rows.append(row(name, origin))
        write("training_recipe", rows)
        exact = ", ".join(f"{x:.2f}" for x in rows[-1]["exact"])
        console.print(f"{name}: exact match {exact}", style="dim")
    console.print(f"written to {found.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

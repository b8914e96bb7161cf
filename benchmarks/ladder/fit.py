"""Train one model of the ladder; stopped at any time, it goes on where its checkpoint stands."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ladder.corpus import Corpus, Subwords, subwords
from ladder.kinds import Kind, Recipe, build, facts, logits
from ladder.writing import translate
from lookback import metrics
from lookback.data.loaders import Batch, pair_loader
from lookback.training import cosine, read_checkpoint, token_loss, train, write_checkpoint
from lookback.training.loop import History


@dataclass(frozen=True)
class Run:
    """One model from one seed on one pair of languages, and where it is kept.

    Attributes:
        pair: as ``"de-en"``.
        kind: a name of ``KINDS``.
        seed: of the weights, the dropout and the order of batches.
        folder: holds ``last.ckpt``, ``best.ckpt`` and ``curve.json``.
    """

    pair: str
    kind: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.pair} {self.kind} {self.seed}"


def fit(
    run: Run,
    kind: Kind,
    recipe: Recipe,
    corpus: Corpus,
    *,
    progress: bool | None = None,
    stop_after: int | None = None,
) -> tuple[nn.Module, Subwords, History]:
    """Train, or go on training, or only fetch what was trained.

    Args:
        run: what, and where it is kept.
        kind: the model.
        recipe: how.
        corpus: pairs of sentences.
        progress: see :func:`lookback.training.train`.
        stop_after: updates after which this call ends, as if it had been stopped.

    Returns:
        The model of the best epoch, its subwords, and the whole history.

    Raises:
        ValueError: if a checkpoint is damaged or belongs to another run.
        OSError: if a checkpoint cannot be written; the last good one stays.
    """
    joint = subwords(corpus.train, recipe.subwords)
    torch.manual_seed(run.seed)
    model = build(kind, len(joint))
    batches = pair_loader(joint.pairs(corpus.train), recipe.batch, seed=run.seed)
    optimiser = torch.optim.Adam(model.parameters(), recipe.rate, betas=recipe.betas)
    watch = Watch(run.folder, joint, corpus, optimiser, recipe.batch)
    every = len(batches)
    steps = recipe.epochs * every
    history = train(
        model,
        lambda model, batch: watch.count(loss(model, batch, recipe.smoothing)),
        batches,
        optimiser,
        steps=steps if stop_after is None else min(stop_after, steps),
        clip=recipe.clip,
        schedule=cosine(steps, warmup=min(recipe.warmup, steps // 4)),
        precision=recipe.precision,
        validate=watch,
        validate_every=every,
        patience=recipe.patience,
        checkpoint=run.folder / "last.ckpt",
        checkpoint_every=min(100, every),
        config={
            "run": [run.pair, run.kind, run.seed],
            "subwords": joint.fingerprint(),
            **facts(kind, recipe),
        },
        progress=progress,
    )
    if history.validation:
        model.load_state_dict(read_checkpoint(run.folder / "best.ckpt")["model"])
    return model.eval(), joint, history


def loss(model: nn.Module, batch: Batch, smoothing: float) -> tuple[Tensor, Tensor]:
    return token_loss(logits(model, batch), batch.target, smoothing=smoothing)


class Watch:
    """What training asks after each epoch: minus BLEU of the validation set, written greedily.

    It keeps the weights of the best epoch and one entry an epoch of the learning curve. Called
    again at a step, as a resumed run may, it writes the same again.
    """

    def __init__(
        self,
        folder: Path,
        joint: Subwords,
        corpus: Corpus,
        optimiser: torch.optim.Optimizer,
        batch: int,
    ) -> None:
        self.folder, self.joint, self.optimiser = folder, joint, optimiser
        self.sentences, self.batch = corpus.validation, batch
        self.loader = pair_loader(joint.pairs(corpus.validation), batch, shuffle=False)
        self.began, self.updates = time.process_time(), 0

    def count(self, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Note that an update was made in this process."""
        self.updates += 1
        return found

    def __call__(self, model: nn.Module) -> float:
        from accelerate import PartialState

        step = int(next(iter(self.optimiser.state.values()))["step"])
        curve = [entry for entry in self.curve(self.folder) if entry["step"] < step]
        last = curve[-1] if curve else {"step": 0, "cpu_seconds": 0.0}
        # a resumed epoch was only partly made here: its updates cost as much as those that were
        an_update = (time.process_time() - self.began) / max(self.updates, 1)
        used = last["cpu_seconds"] + (step - last["step"]) * an_update
        sources, references = (list(side) for side in zip(*self.sentences, strict=True))
        written = translate(model, self.joint, sources, batch=self.batch)
        bleu = metrics.bleu(written, references).value
        entry = {"step": step, "bleu": bleu, "nats": self.nats(model), "cpu_seconds": used}
        best = max((old["bleu"] for old in curve), default=-math.inf)
        if PartialState().is_main_process:
            if bleu > best:
                write_checkpoint(self.folder / "best.ckpt", {"model": model.state_dict()})
            partial = self.folder / "curve.partial"
            partial.write_text(json.dumps([*curve, entry], indent=1), "utf-8")
            partial.replace(self.folder / "curve.json")
        self.began, self.updates = time.process_time(), 0
        return -bleu

    def nats(self, model: nn.Module) -> float:
        """Cross-entropy of a subword of the validation set, without smoothing."""
        device = next(model.parameters()).device
        total, count = 0.0, 0
        for batch in self.loader:
            batch = batch.to(device)
            summed, targets = token_loss(logits(model, batch), batch.target)
            total, count = total + float(summed), count + int(targets)
        return total / count

    @staticmethod
    def curve(folder: Path) -> list[dict[str, Any]]:
        """The entries so far of the run that is kept there."""
        path = folder / "curve.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else []

"""The translation ladder: one corpus, one tokenizer, one budget, and only the architecture changes.

Trains what has not been trained yet and scores what has not been scored; stopped at any time, the
same command goes on where it was. A pair of languages, a model and a seed are a run. Writes
``benchmarks/results/multi30k.json``, one row a pair and model, and beside it the maps of attention
and the examples that pages show.

    OMP_NUM_THREADS=1 python benchmarks/translation.py
    OMP_NUM_THREADS=1 python benchmarks/translation.py --pair de-en --kind transformer --seed 1
    accelerate launch benchmarks/translation.py

Multi30k is read from the folder that ``LOOKBACK_DATA`` names, or downloaded. Checkpoints go to
``_build/translation/``. A run takes 5 to 15 minutes on one thread of a CPU that multiplies bfloat16
in hardware; elsewhere add ``--precision float32``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from ladder import corpus, results
from ladder.fit import Run, Watch, fit
from ladder.kinds import KINDS, Recipe, facts
from ladder.score import resampled, score
from lookback.transformer import count_parameters
from provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/translation.py"

# one seed of everything first
LADDER = ("transformer", "bahdanau", "none", "luong")
PLAN = [
    *(("de-en", kind, 0) for kind in LADDER),
    ("en-fr", "bahdanau", 0),
    ("en-fr", "transformer", 0),
    ("de-en", "longer", 0),
    *(("de-en", kind, 1) for kind in LADDER),
    *(("de-en", kind, 2) for kind in LADDER),
]
ALIGNED = ("en-fr",)
"""Pairs for which links between words of test captions were drawn by hand."""
FEWER = {"en-fr": {"epochs": 5}}
"""What is enough to see alignments, where scores are not compared."""


def main(
    pair: Annotated[str | None, typer.Option(help="only this pair of languages: de-en")] = None,
    kind: Annotated[str | None, typer.Option(help=f"only this model: {', '.join(KINDS)}")] = None,
    seed: Annotated[int | None, typer.Option(help="only this seed")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training set")] = None,
    limit: Annotated[int | None, typer.Option(help="pairs of each part that are read")] = None,
    precision: Annotated[str | None, typer.Option(help="of the forward pass")] = None,
    score_again: Annotated[bool, typer.Option(help="score what was scored before, too")] = False,
    folder: Annotated[Path, typer.Option(help="of checkpoints")] = ROOT / "_build" / "translation",
    out: Annotated[Path, typer.Option(help="of results")] = ROOT / "benchmarks" / "results",
) -> None:
    """Train and score every run of the plan, or those that the options leave."""
    from accelerate import PartialState

    torch.set_num_threads(1)
    console, first = Console(), PartialState().is_main_process
    device = "cuda" if torch.cuda.is_available() else "cpu"
    origin = provenance(COMMAND, device, ("tokenizers", "sacrebleu", "accelerate"))
    given = {"epochs": epochs, "precision": precision}
    given = {name: value for name, value in given.items() if value is not None}
    for wanted in PLAN:
        if any(x not in (None, y) for x, y in zip((pair, kind, seed), wanted, strict=True)):
            continue
        recipe = Recipe(**(KINDS[wanted[1]].recipe | FEWER.get(wanted[0], {}) | given))
        run = Run(*wanted, folder / "-".join(map(str, wanted)))
        if done(run, recipe) and not score_again:
            continue
        console.print(f"{run.name}: training", style="dim")
        data = corpus.read(run.pair, limit)
        model, joint, history = fit(run, KINDS[run.kind], recipe, data)
        if not first:
            continue
        found, texts = score(model, joint, data, aligned=run.pair in ALIGNED and limit is None)
        curve = Watch.curve(run.folder)
        best = max(range(len(curve)), key=lambda epoch: curve[epoch]["bleu"])
        record = {
            "settings": facts(KINDS[run.kind], recipe),
            "parameters": count_parameters(model),
            "scores": found,
            "curve": curve,
            "loss": [round(x, 4) for x in history.loss[:: max(len(history.loss) // 100, 1)]],
            "best epoch": best + 1,
            "stopped early": history.stopped_early,
            "cpu seconds": curve[-1]["cpu_seconds"],
            "seconds": sum(history.seconds),
            **origin,
        }
        results.write(run.folder / "written.json", texts)
        results.write(run.folder / "scores.json", record)
        console.print(f"{run.name}: BLEU {found['greedy']['token bleu']:.1f}")
        collect(folder, out, limit)
    if first:
        collect(folder, out, limit)


def done(run: Run, recipe: Recipe) -> bool:
    """Whether this very run was trained and scored."""
    path = run.folder / "scores.json"
    wanted = json.loads(json.dumps(facts(KINDS[run.kind], recipe)))
    return path.is_file() and read(path)["settings"] == wanted


def collect(folder: Path, out: Path, limit: int | None) -> None:
    """Gather every finished run of the plan into the results."""
    finished = [
        (run, read(run.folder / "scores.json"))
        for run in (Run(*wanted, folder / "-".join(map(str, wanted))) for wanted in PLAN)
        if (run.folder / "scores.json").is_file()
    ]
    groups = results.together(finished)
    if not groups:
        return
    results.write(out / "multi30k.json", [results.row(runs) for runs in groups.values()])
    results.write(
        out / "multi30k_alignments.json",
        [entry for runs in groups.values() for entry in results.maps(runs)],
    )
    written = {
        kind: read(groups["de-en", kind][0][0].folder / "written.json")
        for kind in ("none", "bahdanau", "luong", "transformer")
        if ("de-en", kind) in groups
    }
    if not written:
        return
    data = corpus.read("de-en", limit)
    joint = corpus.subwords(data.train, Recipe.subwords)
    shown = {
        "corpus": results.corpus_facts(data, joint),
        "examples": results.examples(
            data, joint, {k: texts["beam"] for k, texts in written.items()}
        ),
    }
    if "bahdanau" in written and len(written) > 1:
        greedy = {kind: texts["greedy"] for kind, texts in written.items()}
        references = [wanted for _, wanted in data.test]
        shown["resampled"] = resampled(greedy, references, baseline="bahdanau")
    results.write(out / "multi30k_examples.json", shown)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    typer.run(main)

"""How many times as long as attention a recurrence takes for a step of training, by length.

Writes ``benchmarks/results/step_times_<device>.json``, one row a recurrence and length. The page
on speed measures the same on the CPU that builds the book, and reads what a GPU left. A few
minutes.

    python benchmarks/step_times.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from lookback import measure
from lookback.attention import MultiHeadAttention
from lookback.recurrent import LSTM

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

LENGTHS, B, D, H = (16, 32, 64, 128, 256, 512, 1024), 8, 64, 4


def layers(device: torch.device) -> dict[str, nn.Module]:
    """Attention first, then its rivals: the same calculation in Python and compiled."""
    torch.manual_seed(0)
    made = {
        "attention": MultiHeadAttention(D, H),
        "LSTM, loop in Python": LSTM(D, D, batch_first=True),
        "LSTM, compiled": nn.LSTM(D, D, batch_first=True),
    }
    return {name: layer.to(device) for name, layer in made.items()}


def training_step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        y = layer(x)
        (y[0] if isinstance(y, tuple) else y).sum().backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each layer gets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    name = measure.device_name(device)
    made, console, rows = layers(device), Console(), []
    for T in LENGTHS:
        x = torch.randn(B, T, D, device=device)
        steps = {kind: training_step(layer, x) for kind, layer in made.items()}
        base = measure.seconds(steps["attention"]).median
        for kind, ratio in list(measure.compare(steps, rounds=options.rounds).items())[1:]:
            console.print(f"{kind}, T {T}: {ratio}", style="dim")
            rows.append(
                {
                    "name": f"{kind}, T = {T}",
                    "kind": kind,
                    "T": T,
                    "ratio": ratio.median,
                    "spread": asdict(ratio),
                    "attention_ms": 1e3 * base,
                    "settings": {"B": B, "D": D, "H": H},
                    "seeds": [0],
                    "device": name,
                    "versions": {"python": platform.python_version(), "torch": torch.__version__},
                    "command": f"python benchmarks/step_times.py --device {device.type}",
                    "commit": commit,
                    "date": date.today().isoformat(),
                }
            )
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    path = RESULTS / f"step_times_{slug}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    console.print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

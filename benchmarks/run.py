"""Ours against peers, side by side in one run: ``make bench``.

Writes ``benchmarks/results/<device>.json``, one row a comparison: name, milliseconds of ours, ratio
of the peer's time to ours (above 1: ours is faster) with its quartiles, the largest error of ours
against float64, versions, commit. Ratios are what to read; milliseconds belong to the machine and
the hour.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lookback import measure
from lookback.attention import MultiHeadAttention, scaled_dot_product_attention

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Comparison:
    """Two ways to the same numbers, and how far ours is from float64."""

    name: str
    ours: Callable[[], object]
    peer_name: str
    peer: Callable[[], object]
    error: float


def fused_against_reference(device: torch.device) -> Iterator[Comparison]:
    """What torch's fused kernels save over the equation written out."""
    for T in (256, 1024, 4096):
        q, k, v = (torch.randn(1, 8, T, 64, device=device) for _ in range(3))
        exact = scaled_dot_product_attention(q.double(), k.double(), v.double())
        fused = scaled_dot_product_attention(q, k, v, kernel="sdpa")
        yield Comparison(
            f"attention, fused kernel, T {T}",
            lambda q=q, k=k, v=v: scaled_dot_product_attention(q, k, v, kernel="sdpa"),
            "reference",
            lambda q=q, k=k, v=v: scaled_dot_product_attention(q, k, v),
            largest_error(fused, exact),
        )


def training_step_of_multi_head_attention(device: torch.device) -> Iterator[Comparison]:
    """A layer of ours against torch's, forward and backward, on the same weights."""
    for T in (256, 512, 1024):
        for D in (128, 512):
            theirs = nn.MultiheadAttention(D, 8, batch_first=True).to(device)
            ours = MultiHeadAttention(D, 8).to(device)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(4, T, D, device=device)
            exact = MultiHeadAttention(D, 8, kernel="reference").double().to(device)
            exact.load_state_dict(theirs.state_dict())
            yield Comparison(
                f"multi-head attention, training step, T {T}, width {D}",
                lambda ours=ours, x=x: step(ours(x), ours),
                "nn.MultiheadAttention",
                lambda theirs=theirs, x=x: step(theirs(x, x, x, need_weights=False)[0], theirs),
                largest_error(ours(x), exact(x.double())),
            )


COMPARISONS = (fused_against_reference, training_step_of_multi_head_attention)


def step(output: Tensor, layer: nn.Module) -> None:
    """Backward through ``output`` and forget the gradients again."""
    output.square().mean().backward()
    layer.zero_grad(set_to_none=True)


def largest_error(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).abs().max())


def row(comparison: Comparison, commit: str) -> dict[str, object]:
    """Time both sides in turns."""
    times = measure.compare({"ours": comparison.ours, comparison.peer_name: comparison.peer})
    ratio = times[comparison.peer_name]
    return {
        "name": comparison.name,
        "ours": "lookback",
        "peer": comparison.peer_name,
        "ours_ms": measure.seconds(comparison.ours).median * 1e3,
        "ratio": ratio.median,
        "spread": asdict(ratio),
        "error": comparison.error,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    console = Console()
    rows = []
    for comparisons in COMPARISONS:
        for comparison in comparisons(device):
            console.print(comparison.name, style="dim")
            rows.append(row(comparison, commit))
    name = measure.device_name(device)
    table = Table(title=f"{name}: the peer's time over ours", title_justify="left")
    for heading in ("comparison", "peer", "ours, ms", "ratio (quartiles)", "error"):
        table.add_column(heading)
    for r in rows:
        quartiles = f"{r['ratio']:.2f} ({r['spread']['low']:.2f} to {r['spread']['high']:.2f})"
        table.add_row(r["name"], r["peer"], f"{r['ours_ms']:.2f}", quartiles, f"{r['error']:.1e}")
    console.print(table)
    path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    console.print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""Two ways to the same result, timed in turns; and what a bar asks of such a row."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from lookback import measure

Call = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Two calls that are to be compared.

    Attributes:
        name: of the row.
        ours: the call.
        peer_name: what it is compared with.
        peer: the other call; None where its package is not installed.
        error: largest difference of ours from float64, in units of the output.
        bar: the bar that the row counts towards, by its id.
        settings: sizes, and whatever else the row needs to be understood.
        work: floating-point operations of one call of ours, where a rate is wanted.
    """

    name: str
    ours: Call
    peer_name: str
    peer: Call | None
    error: float | None = None
    bar: str | None = None
    settings: dict = field(default_factory=dict)
    work: float | None = None


@dataclass(frozen=True)
class Bar:
    """A number that rows are to reach: the median of ``key`` over all that count towards it."""

    id: str
    text: str
    wanted: float
    most: bool = False  # wanted is an upper bound
    key: str = "ratio"

    def row(self, rows: Sequence[dict]) -> dict | None:
        """The bar beside what was found; None where no row counts towards it."""
        found = [r[self.key] for r in rows if r.get("bar") == self.id and r.get(self.key)]
        if not found:
            return None
        value = statistics.median(found)
        met = value <= self.wanted if self.most else value >= self.wanted
        return {
            "name": f"bar: {self.id}",
            "kind": "bar",
            "text": self.text,
            "wanted": self.wanted,
            "most": self.most,
            "found": value,
            "range": [min(found), max(found)],
            "rows": len(found),
            "met": met,
        }


def row(comparison: Comparison, device: torch.device, seconds: float) -> dict[str, object]:
    """Time both sides in turns, for some ``seconds`` in all.

    On a CPU what counts is processor time, which other programs do not lengthen.
    """
    processor = device.type == "cpu"
    found = {
        "name": comparison.name,
        "kind": "comparison",
        "ours": "lookback",
        "peer": comparison.peer_name,
        "bar": comparison.bar,
        "error": comparison.error,
        "settings": comparison.settings,
    }
    rounds, block = _rounds(comparison, device, seconds)
    if comparison.peer is None:
        own = measure.seconds(comparison.ours, min_seconds=block, processor=processor)
        return found | {"ours_ms": 1e3 * own.median, "missing": True}
    ratio = measure.compare(
        {"ours": comparison.ours, comparison.peer_name: comparison.peer},
        rounds=rounds,
        min_seconds=block,
        processor=processor,
    )
    own = measure.seconds(comparison.ours, min_seconds=block, processor=processor)
    found |= {
        "ours_ms": 1e3 * own.median,
        "ratio": ratio[comparison.peer_name].median,
        "spread": asdict(ratio[comparison.peer_name]),
    }
    if comparison.work is not None:
        found["tflops"] = comparison.work / found["ours_ms"] / 1e9
    if processor and comparison.bar is not None:
        found["profile"] = {
            "ours": profile(comparison.ours),
            "peer": profile(comparison.peer),
        }
    return found


def profile(call: Call, most: int = 4) -> list[list]:
    """The operations that take the most processor time in a call, each with its share of it."""
    # read when the profiler first starts, which otherwise announces itself on stderr
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile() as found:
        call()
    events = [e for e in found.key_averages() if e.self_cpu_time_total > 0]
    total = sum(e.self_cpu_time_total for e in events)
    events = sorted(events, key=lambda e: -e.self_cpu_time_total)[:most]
    return [[e.key, e.self_cpu_time_total / total] for e in events]


def step(output: Tensor, layer: nn.Module) -> None:
    """Backward through ``output`` and forget the gradients again."""
    output.square().mean().backward()
    layer.zero_grad(set_to_none=True)


def largest_error(ours: Tensor, exact: Tensor) -> float:
    """Largest difference between two tensors."""
    return float((ours.detach().double().cpu() - exact.detach().double().cpu()).abs().max())


def _rounds(comparison: Comparison, device: torch.device, seconds: float) -> tuple[int, float]:
    """Turns, 3 to 9, and the least length of a block, so that all of it takes some ``seconds``."""
    calls = [f for f in (comparison.ours, comparison.peer) if f is not None]
    once = _once(calls, device)  # the first call pays for caches, lazy imports and compilers
    if once < 1 or device.type == "cuda":
        once = _once(calls, device)
    rounds = int(min(9, max(3, seconds / max(once, 1e-9))))
    return rounds, min(0.05, max(1e-3, seconds / 40))


def _once(calls: Sequence[Call], device: torch.device) -> float:
    """Seconds of one call of each."""
    began = time.perf_counter()
    for f in calls:
        f()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began

"""What each way of attention costs on long sequences: operations, memory, processor time.

Writes ``benchmarks/results/long_sequences.json``, one row a way and length: one head of width 64,
forward pass, one CPU thread. Time is processor time, so that other work on the machine does not
count. A way stops at the first length at which a call takes more than the limit. Some ten minutes.

    OMP_NUM_THREADS=1 python benchmarks/long_sequences.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from lookback import measure
from lookback.efficient import (
    block_sparse,
    delta_rule,
    linear,
    low_rank,
    random_features,
    reference,
    window,
)
from provenance import ROOT, provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/long_sequences.py"

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
D, BLOCK, RUNS, LIMIT = 64, 64, 5, 8.0  # width, tokens, calls at least, seconds a call at most
STORED_MOST = 8192  # beyond, the scores of the reference fill a laptop's memory


def stored(n: int) -> Callable[..., Tensor]:
    return reference.attention


def fused(n: int) -> Callable[..., Tensor]:
    return F.scaled_dot_product_attention


def near(n: int) -> Callable[..., Tensor]:
    return partial(window.attention, width=128, sinks=4, causal=True)


def dilated(n: int) -> Callable[..., Tensor]:
    return partial(window.attention, width=128, dilation=4, causal=True)


def blocks(n: int) -> Callable[..., Tensor]:
    return partial(block_sparse.attention, layout=block_sparse.big_bird(n, block=BLOCK))


def chunked(n: int) -> Callable[..., Tensor]:
    return partial(linear.attention, causal=True)


def random(n: int) -> Callable[..., Tensor]:
    omega = random_features.draw(256, D, generator=torch.Generator().manual_seed(0))
    return partial(random_features.attention, omega=omega, causal=True)


def landmarks(n: int) -> Callable[..., Tensor]:
    return partial(low_rank.nystrom, landmarks=64)


def projected(n: int) -> Callable[..., Tensor]:
    return partial(low_rank.linformer, project_k=low_rank.segment_means(64, n))


def rewriting(n: int) -> Callable[..., Tensor]:
    return partial(delta_rule.attention, causal=True)


WAYS = {  # name → way, what it was given
    "stored scores": (stored, {}),
    "fused, exact": (fused, {}),
    "window": (near, {"width": 128, "sinks": 4, "causal": True}),
    "dilated window": (dilated, {"width": 128, "dilation": 4, "causal": True}),
    "block-sparse": (blocks, {"block": BLOCK, "window": 3, "global": 1, "random": 1}),
    "linear": (chunked, {"features": "elu", "chunk": 64, "causal": True}),
    "random features": (random, {"draws": 256, "chunk": 64, "causal": True}),
    "Nyström": (landmarks, {"landmarks": 64}),
    "Linformer": (projected, {"rank": 64}),
    "delta rule": (rewriting, {"chunk": 64, "causal": True}),
}


def processor_seconds(call: Callable[[], object]) -> list[float]:
    """Processor time of each of several calls, after one that does not count."""
    call()
    found: list[float] = []
    while len(found) < RUNS or sum(found) < 0.5:
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return found


def row(name: str, n: int, origin: dict) -> dict[str, object]:
    """Operations, peak memory and time of one way at one length."""
    way, settings = WAYS[name]
    source = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, n, D, generator=source)
    call = partial(way(n), q, k, v)
    with torch.no_grad():
        times = processor_seconds(call)
        operations, memory = measure.operations(call), measure.peak_memory(call)
    return {
        "name": f"{name}, n = {n}",
        "way": name,
        "n": n,
        "seconds": statistics.median(times),
        "spread": [min(times), max(times)],
        "runs": len(times),
        "operations": operations,
        "memory": memory,
        "settings": {"D": D, **settings},
        "seeds": [0],
        **origin,
    }


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for name in WAYS:
        for n in LENGTHS:
            if name == "stored scores" and n > STORED_MOST:
                break
            rows.append(row(name, n, origin))
            took, held = rows[-1]["seconds"], rows[-1]["memory"] / 2**20
            console.print(f"{name}, n = {n}: {1e3 * took:.1f} ms, {held:.1f} MiB", style="dim")
            if took > LIMIT:
                break
    path = write("long_sequences", rows)
    console.print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

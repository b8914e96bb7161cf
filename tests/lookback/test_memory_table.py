"""How peak memory grows with the length, by the exponent fitted to T = 512 … 8192."""

from __future__ import annotations

import pytest
import torch

from lookback.efficient import (
    block_sparse,
    linear,
    low_rank,
    random_features,
    reference,
    tiled,
    window,
)
from lookback.measure import fitted_exponent, peak_memory

LENGTHS = [512, 1024, 2048, 4096, 8192]
WIDTH = 16


def causal(attention, **options):
    return lambda q, k, v: attention(q, k, v, causal=True, **options)


def under_padding(q, k, v):
    mask = torch.arange(len(k)) < len(k) - 5
    return tiled.attention(q, k, v, mask, causal=True)


def by_layout(q, k, v):
    layout = block_sparse.big_bird(len(q), block=64, global_blocks=0, random_blocks=2)
    return block_sparse.attention(q, k, v, causal=True, layout=layout)


def by_segments(q, k, v):
    means = low_rank.segment_means(32, len(k))
    return low_rank.linformer(q, k, v, project_k=means)


WAYS = {
    "reference": reference.attention,
    "tiled, with a padding mask": under_padding,
    "window": causal(window.attention, width=64, sinks=4),
    "block-sparse": by_layout,
    "linear, chunked": causal(linear.attention),
    "linear, with decay": causal(linear.attention, decay=0.99),
    "random features": causal(random_features.attention, omega=random_features.draw(16, WIDTH)),
    "low rank": by_segments,
}


def peaks(attention, training: bool) -> list[int]:
    """Peak bytes at each length: of one call, or of one call with its backward pass."""

    def peak(T: int) -> int:
        q, k, v = (torch.randn(T, WIDTH, requires_grad=training) for _ in range(3))
        if not training:
            return peak_memory(lambda: attention(q, k, v))
        upstream = torch.randn(T, WIDTH)
        return peak_memory(lambda: torch.autograd.grad(attention(q, k, v), (q, k, v), upstream))

    return [peak(T) for T in LENGTHS]


@pytest.mark.parametrize("training", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize("name", WAYS)
def test_peak_memory_grows_as_each_way_promises(name, training):
    found = peaks(WAYS[name], training)
    exponent = fitted_exponent(LENGTHS, found)
    table = ", ".join(f"T {T}: {n / 2**20:.1f} MiB" for T, n in zip(LENGTHS, found, strict=True))
    if name == "reference":
        assert 1.9 < exponent < 2.1, table
        assert found[-1] > 8192 * 8192 * 4, table  # at least the whole matrix
    else:
        assert exponent < 1.1, f"{name} grows as T^{exponent:.2f}: {table}"
        assert found[-1] < 8192 * 8192 * 4 / 2, table

"""Inputs that every way of computing attention is held to, and the comparison itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from conftest import tolerance
from lookback import masks

# (T, S): full and partly filled tiles of 4, one query, more queries than keys, one key
SHAPES = [(8, 8), (7, 7), (5, 11), (1, 6), (9, 4), (3, 1)]
MASKS = ["none", "padding", "random", "empty rows", "keys only", "all closed"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def tensors(T, S, *, K=4, V=5, batch=(2, 3), device="cpu", dtype=torch.float64) -> list[Tensor]:
    """Queries, keys and values, none of them contiguous, as heads cut from one width are not."""
    widths = ((T, K), (S, K), (S, V))
    return [
        torch.randn(*batch, width, length, device=device, dtype=dtype).mT
        for length, width in widths
    ]


def mask_of(kind: str, T: int, S: int, *, device="cpu") -> Tensor | None:
    """One mask of each kind, for a batch of (2, 3)."""
    if kind == "none":
        return None
    if kind == "padding":  # one row of the batch is all padding
        lengths = torch.tensor([[S, 0, 1], [S // 2, S, max(S - 1, 0)]], device=device)
        return masks.padding(lengths, S)
    if kind == "keys only":
        return torch.arange(S, device=device) % 3 != 1
    if kind == "all closed":
        return torch.zeros(1, 1, dtype=torch.bool, device=device)
    mask = torch.rand(2, 1, T, S, device=device) < 0.6
    if kind == "empty rows":
        mask[:, :, ::2] = False
    return mask


def assert_same(
    ours: Callable[..., Tensor], exact: Callable[..., Tensor], inputs: list[Tensor]
) -> None:
    """Equal outputs and gradients, the exact side computed in float64."""
    dtype = inputs[0].dtype
    mine = [x.clone().requires_grad_() for x in inputs]
    theirs = [x.double().requires_grad_() for x in inputs]
    out, expected = ours(*mine), exact(*theirs)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, **tolerance(dtype))
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream.double())
    for mine_, theirs_ in zip(mine, theirs, strict=True):
        torch.testing.assert_close(mine_.grad.double(), theirs_.grad, **tolerance(dtype))

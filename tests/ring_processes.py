"""Run by the ring's test: processes that each hold a part of a sequence, against one with all.

Torch is imported once and the processes forked from there, before any tensor is made.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lookback import masks
from lookback.efficient import reference, ring

LENGTHS = [5, 3, 0, 4]


def compare(rank: int, causal: bool, kind: str, dtype: torch.dtype) -> None:
    """The ring's output and gradients of this rank's part against the whole in one process."""
    torch.manual_seed(0)
    T = sum(LENGTHS)
    q, k, v, upstream = (
        torch.randn(2, n, T, width, dtype=dtype) for n, width in ((3, 4), (3, 4), (3, 5), (3, 5))
    )
    mask = {
        "none": None,
        "padding": masks.padding(torch.tensor([[12, 7, 0], [4, 12, 9]]), T),
        "random": torch.rand(2, 1, T, T) < 0.5,
    }[kind]
    start = sum(LENGTHS[:rank])
    rows = slice(start, start + LENGTHS[rank])
    part = mask[..., rows, :] if kind == "random" else mask

    whole = [x.double().clone().requires_grad_() for x in (q, k, v)]
    expected = reference.attention(*whole, mask, causal=causal)
    expected.backward(upstream.double())
    mine = [x[..., rows, :].clone().requires_grad_() for x in (q, k, v)]
    out = ring.attention(*mine, part, causal=causal, tile=2)
    out.backward(upstream[..., rows, :])

    close = {"rtol": 16 * torch.finfo(dtype).eps, "atol": 16 * torch.finfo(dtype).eps}
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected[..., rows, :], **close)
    for x, y in zip(mine, whole, strict=True):
        torch.testing.assert_close(x.grad.double(), y.grad[..., rows, :], **close)


def refuse_unequal_parts(rank: int) -> None:
    x = torch.randn(2, 3, 4 if rank == 1 else 5)
    with pytest.raises(ValueError, match="parts differ"):
        ring.attention(x, x, x)


def work(rank: int, meeting_place: str) -> None:
    torch.set_num_threads(1)
    place = f"file://{Path(meeting_place).absolute()}"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=len(LENGTHS))
    for dtype in (torch.float64, torch.bfloat16):
        for causal in (False, True):
            for kind in ("none", "padding", "random"):
                compare(rank, causal, kind, dtype)
    refuse_unequal_parts(rank)
    dist.destroy_process_group()


def main(meeting_place: str) -> int:
    children = []
    for rank in range(len(LENGTHS)):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(rank, meeting_place)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

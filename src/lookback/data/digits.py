"""Handwritten digits, 8 × 8: 1,797 of them, from scikit-learn.

The test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI Machine
Learning Repository, CC BY 4.0), which scikit-learn carries. 43 people wrote; each pixel counts the
dark points of a 4 × 4 block, 0 to 16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

PARTS = ("train", "test")


class Digits(NamedTuple):
    """``images`` are ``(n, 8, 8)`` from 0 to 1, ``labels`` ``(n,)`` from 0 to 9."""

    images: Float[Tensor, "n 8 8"]
    labels: Int[Tensor, " n"]


def load(part: str = "train", *, dtype: torch.dtype = torch.float32) -> Digits:
    """Read one part: every sixth image is ``"test"`` (300), the others ``"train"`` (1,497).

    The file goes writer by writer, so both parts know every hand: this measures no new writers.

    Raises:
        ValueError: if the part is unknown.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; choose one of {', '.join(PARTS)}")
    from sklearn.datasets import load_digits

    data = load_digits()
    held_out = torch.arange(len(data.target)) % 6 == 0
    chosen = held_out if part == "test" else ~held_out
    images = torch.tensor(data.images, dtype=dtype) / 16
    return Digits(images[chosen], torch.tensor(data.target, dtype=torch.long)[chosen])


def patches(images: Float[Tensor, "*batch H W"], side: int) -> Float[Tensor, "*batch T P"]:
    """Cut images into square patches, row by row: T = H/side · W/side tokens of side² pixels.

    Raises:
        ValueError: if ``side`` does not divide height and width.
    """
    H, W = images.shape[-2:]
    if side < 1 or H % side or W % side:
        raise ValueError(f"patches of {side} × {side} do not tile an image of {H} × {W}")
    cut = images.unflatten(-1, (W // side, side)).unflatten(-3, (H // side, side))
    return cut.transpose(-2, -3).flatten(-2).flatten(-3, -2)  # … h s w s -> … h w s s -> … T P

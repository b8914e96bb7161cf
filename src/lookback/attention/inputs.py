"""What every model over attention asks of its tokens and lengths."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from lookback import masks


def check_tokens(tokens: Tensor, vocabulary: int) -> None:
    """Refuse what is not a batch of tokens.

    Raises:
        ValueError: naming the shape, the dtype or the token that does not fit.
    """
    if tokens.dtype not in (torch.int64, torch.int32):  # what an embedding can look up
        raise ValueError(f"tokens must be int64 or int32, got {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens need 2 axes (B, T), got {tuple(tokens.shape)}")
    if tokens.shape[1] == 0:
        raise ValueError("the sequence is empty: it has 0 tokens")
    # on a GPU this look would make every step wait; there, the lookup itself fails
    if tokens.device.type == "cpu" and tokens.numel():
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= vocabulary:
            raise ValueError(f"tokens run from {low} to {high}, the vocabulary has {vocabulary}")


def check_vectors(x: Tensor, width: int) -> None:
    """Refuse what is not a batch of sequences of vectors.

    Raises:
        ValueError: naming the shape or the dtype that does not fit.
    """
    if x.ndim != 3 or x.shape[-1] != width:
        raise ValueError(f"vectors need shape (B, T, {width}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"vectors must be floating point, got {x.dtype}")
    if x.shape[1] == 0:
        raise ValueError("the sequence is empty: it has 0 positions")


def padding_mask(lengths: Tensor | None, x: Tensor) -> Bool[Tensor, "B 1 T"] | None:
    """The mask of a padded batch ``(B, T, …)``; None where no lengths are given.

    Raises:
        ValueError: if there is not one length a sequence, or one lies outside ``1 … T``.
    """
    if lengths is None:
        return None
    if lengths.shape != x.shape[:1]:
        shape = tuple(lengths.shape)
        raise ValueError(f"there are {len(x)} sequences but lengths of shape {shape}")
    mask = masks.padding(lengths, x.shape[1])
    if lengths.numel() and int(lengths.min()) < 1:
        raise ValueError(f"every sequence needs at least 1 position, got {int(lengths.min())}")
    return mask

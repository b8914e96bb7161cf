"""Layer norm and RMS norm, from their equations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): each vector by its own mean and deviation.

        y = (x - mean(x)) / √(var(x) + eps) · weight + bias

    The variance divides by ``D``, not ``D - 1``. Nothing is shared across batch or time. Takes and
    gives the ``state_dict`` of :class:`torch.nn.LayerNorm`.

    Args:
        D: width.
        eps: keeps the root away from zero; inside it.
        bias: whether a bias is added.

    Raises:
        ValueError: if the width is below 1.
    """

    def __init__(self, D: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        if D < 1:
            raise ValueError(f"a norm needs a width of at least 1, got {D}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(D))
        self.bias = nn.Parameter(torch.zeros(D)) if bias else None

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Normalise along the last axis.

        Raises:
            ValueError: if the last axis has another width.
        """
        _check_width(x, self.weight)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow float16
        centred = wide - wide.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        y = centred * scale * self.weight
        return (y if self.bias is None else y + self.bias).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019): no mean, no bias.

        y = x / √(mean(x²) + eps) · weight

    Takes and gives the ``state_dict`` of :class:`torch.nn.RMSNorm`.

    Args:
        D: width.
        eps: keeps the root away from zero; inside it.

    Raises:
        ValueError: if the width is below 1.
    """

    def __init__(self, D: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        if D < 1:
            raise ValueError(f"a norm needs a width of at least 1, got {D}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Normalise along the last axis.

        Raises:
            ValueError: if the last axis has another width.
        """
        _check_width(x, self.weight)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow float16
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight).to(x.dtype)


def _check_width(x: Tensor, weight: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"a norm's input must be floating point, got {x.dtype}")
    if x.ndim < 1 or x.shape[-1] != len(weight):
        raise ValueError(f"this norm has width {len(weight)}, got shape {tuple(x.shape)}")

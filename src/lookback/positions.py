"""Where a token stands: sinusoidal and learned position vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sinusoidal(
    T: int,
    D: int,
    *,
    base: float = 10_000.0,
    offset: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "T D"]:
    """Sinusoidal position vectors (Vaswani et al. 2017, section 3.5).

        p[t, 2i]     = sin(t / base^(2i/D))
        p[t, 2i + 1] = cos(t / base^(2i/D))

    Args:
        T: number of positions.
        D: width; an odd width leaves the last cosine out.
        base: sets the longest wavelength, ``2π · base`` positions.
        offset: position of the first row.
        device: where the table is made.
        dtype: of the result; angles are computed in float64, so that far positions stay exact.

    Returns:
        Table of shape ``(T, D)``; row 0 at offset 0 is ``(0, 1, 0, 1, …)``.

    Raises:
        ValueError: if ``T`` is negative, ``D`` is below 1 or ``base`` is not above 1.
    """
    if T < 0 or D < 1 or base <= 1:
        raise ValueError(f"need T ≥ 0, D ≥ 1 and base > 1, got T = {T}, D = {D}, base = {base}")
    position = torch.arange(offset, offset + T, device=device, dtype=torch.float64)[:, None]
    frequency = base ** (-torch.arange(0, D, 2, device=device, dtype=torch.float64) / D)
    angle = position * frequency  # T ⌈D/2⌉
    table = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)  # T 2·⌈D/2⌉
    return table[:, :D].to(dtype)


class LearnedPositions(nn.Module):
    """One trained vector a position (Gehring et al. 2017, section 3.1).

    Args:
        max_length: number of positions; none exists beyond.
        D: width.

    Raises:
        ValueError: if either is below 1.
    """

    def __init__(self, max_length: int, D: int) -> None:
        super().__init__()
        if max_length < 1 or D < 1:
            raise ValueError(f"need max_length ≥ 1 and D ≥ 1, got {max_length} and {D}")
        self.weight = nn.Parameter(torch.randn(max_length, D) * 0.02)

    def forward(self, x: Float[Tensor, "*batch T D"], *, offset: int = 0) -> Float[Tensor, "T D"]:
        """The vectors of positions ``offset … offset + T - 1``, to be added to ``x``.

        Raises:
            ValueError: if ``x`` reaches beyond the last trained position.
        """
        end = offset + x.shape[-2]
        if offset < 0 or end > len(self.weight):
            raise ValueError(
                f"positions {offset} to {end - 1} asked for, but only 0 to {len(self.weight) - 1} "
                "were trained"
            )
        return self.weight[offset:end]

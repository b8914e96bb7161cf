"""Where a token stands: added to the input (sinusoidal, learned), turned into queries and keys
(rotary), or taken off the scores (ALiBi).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
            ValueError: if ``x`` is not floating point, has another width, or reaches beyond the
                last trained position.
        """
        _check_vectors(x, self.weight.shape[1])
        end = offset + x.shape[-2]
        if offset < 0 or end > len(self.weight):
            raise ValueError(
                f"positions {offset} to {end - 1} asked for, but only 0 to {len(self.weight) - 1} "
                "were trained"
            )
        return self.weight[offset:end]


SCALINGS = ("none", "linear", "ntk", "yarn")


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021, section 3.2): each pair of features turns with its place.

        (x[2i], x[2i+1])  turns by  t · θ_i,    θ_i = base^(-2i/K)

    The product of a query turned by ``t`` and a key turned by ``s`` depends on ``t - s`` alone.
    Neighbouring features form a pair, as in the paper; some libraries pair feature ``i`` with
    ``i + K/2``, and their weights must be reordered to agree.

    Beyond the trained length, ``scaling`` slows the rotation by ``factor``:

    - ``"linear"``: every ``θ_i / factor``, so positions are interpolated (Chen et al. 2023);
    - ``"ntk"``: ``base · factor^(K/(K-2))``: the slowest pair is interpolated in full, the fastest
      not at all;
    - ``"yarn"``: pairs that turn less than once within ``trained_length`` are interpolated, those
      that turn more than 32 times are kept, between them a ramp; queries and keys grow by
      ``0.1 ln(factor) + 1`` (Peng et al. 2023, sections 3.2 and 3.4).

    Args:
        K: head width; even.
        base: sets the longest wavelength, ``2π · base`` positions.
        scaling: one of ``SCALINGS``.
        factor: wanted length over trained length; at least 1.
        trained_length: positions seen in training; read by ``"yarn"``.

    Raises:
        ValueError: if ``K`` is odd or below 2, a value is out of range or the scaling unknown.
    """

    K: int
    base: float = 10_000.0
    scaling: str = "none"
    factor: float = 1.0
    trained_length: int | None = None

    def __post_init__(self) -> None:
        if self.K < 2 or self.K % 2:
            raise ValueError(f"rotary positions need an even head width, got {self.K}")
        if self.scaling not in SCALINGS:
            raise ValueError(
                f"unknown scaling {self.scaling!r}; choose one of {', '.join(SCALINGS)}"
            )
        if self.base <= 1 or self.factor < 1:
            raise ValueError(f"need base > 1 and factor ≥ 1, got {self.base} and {self.factor}")
        if self.scaling == "ntk" and self.K == 2:
            raise ValueError("ntk scaling needs a head width of at least 4, got 2")
        if self.scaling == "yarn" and (self.trained_length is None or self.trained_length < 1):
            raise ValueError(f"yarn needs the trained length, got {self.trained_length}")

    def frequencies(self, device: torch.device | str | None = None) -> Float[Tensor, " P"]:
        """Radians a position of each of the ``P = K/2`` pairs, ``θ_i``, in float64."""
        exponent = torch.arange(0, self.K, 2, device=device, dtype=torch.float64) / self.K
        if self.scaling == "ntk":
            return (self.base * self.factor ** (self.K / (self.K - 2))) ** -exponent
        theta = self.base**-exponent
        if self.scaling == "linear":
            return theta / self.factor
        if self.scaling == "yarn":
            turns = self.trained_length * theta / (2 * math.pi)
            keep = ((turns - 1) / (32 - 1)).clamp(0, 1)
            return keep * theta + (1 - keep) * theta / self.factor
        return theta

    def __call__(
        self, x: Float[Tensor, "*batch T K"], offset: int = 0
    ) -> Float[Tensor, "*batch T K"]:
        """Turn queries or keys by their positions ``offset … offset + T - 1``.

        Returns:
            A tensor like ``x``; the angles are computed in float64, so far positions stay exact.

        Raises:
            ValueError: if ``x`` is not floating point or its last axis is not ``K`` wide.
        """
        _check_vectors(x, self.K)
        end = offset + x.shape[-2]
        position = torch.arange(offset, end, device=x.device, dtype=torch.float64)
        angle = torch.outer(position, self.frequencies(x.device))  # T K/2
        dtype = torch.promote_types(x.dtype, torch.float32)
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        if self.scaling == "yarn":
            grow = 0.1 * math.log(self.factor) + 1
            cos, sin = cos * grow, sin * grow
        even, odd = x.to(dtype).unflatten(-1, (-1, 2)).unbind(-1)  # *batch T K/2, twice
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        return turned.flatten(-2).to(x.dtype)


def alibi_slopes(
    H: int, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " H"]:
    """How fast each head loses interest with distance (Press et al. 2022, section 3).

    For a power of two, head ``h`` of ``1 … H`` has slope ``2^(-8h/H)``. For any other count, as in
    the paper's code: the slopes of the next lower power of two, then every other slope of twice
    that power.

    Raises:
        ValueError: if ``H`` is below 1.
    """
    if H < 1:
        raise ValueError(f"need at least 1 head, got {H}")
    power = 2 ** (H.bit_length() - 1)
    slopes = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    slopes += [2 ** (-4 * h / power) for h in range(1, 2 * power + 1, 2)][: H - power]
    return torch.tensor(slopes, device=device, dtype=dtype)


def alibi(
    H: int,
    T: int,
    S: int | None = None,
    *,
    offset: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "H T S"]:
    """Attention with linear biases (Press et al. 2022): ``-slope_h · |i - j|``, added to scores.

    Args:
        H: number of heads.
        T: number of queries.
        S: number of keys; ``T`` when left out.
        offset: position of the first query, as in :func:`lookback.masks.causal`.
        device: where the bias is made.
        dtype: of the result.

    Returns:
        Bias of shape ``(H, T, S)``: zero at the query's own position, falling to both sides; a
        causal mask leaves the past.

    Raises:
        ValueError: if a length is negative or ``H`` is below 1.
    """
    S = T if S is None else S
    if T < 0 or S < 0:
        raise ValueError(f"lengths cannot be negative, got T = {T} and S = {S}")
    query = torch.arange(T, device=device)[:, None] + offset
    distance = (query - torch.arange(S, device=device)).abs()  # T S
    slopes = alibi_slopes(H, device=device, dtype=torch.float64)
    return (-slopes[:, None, None] * distance).to(dtype)


def _check_vectors(x: Tensor, width: int) -> None:
    if not x.is_floating_point():
        raise ValueError(f"vectors must be floating point, got {x.dtype}")
    if x.ndim < 2 or x.shape[-1] != width:
        raise ValueError(f"need shape (…, T, {width}), got {tuple(x.shape)}")

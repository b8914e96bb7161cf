"""What a device can do at most, and how near to it something comes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lookback.plots.figure import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    Figure,
    canvas,
    label_axes,
    logarithmic,
    styled,
)


@styled
def roofline(
    points: Mapping[str, tuple[float | int, float | int]],
    *,
    peak: float | int,
    bandwidth: float | int,
    xlabel: str = "operations a byte",
    ylabel: str = "operations a second / 10⁹",
    title: str = "",
    height: float | int = 3.6,
) -> Figure:
    """The roof ``min(peak, intensity · bandwidth)``, and points under it (Williams et al. 2009).

    Args:
        points: name → operations for each byte moved, and rate that was reached.
        peak: highest rate of the device, in the unit of the rates.
        bandwidth: bytes a second, in the same unit.
        xlabel, ylabel: what is on the axes, with its unit.
        title: above the axes.
        height: of the figure in inches.

    Raises:
        ValueError: if there is no point or too many, or a number is not finite and positive.
    """
    if not 1 <= len(points) <= len(COLOURS):
        raise ValueError(f"a figure tells 1 to {len(COLOURS)} points apart, got {len(points)}")
    numbers = [float(x) for pair in points.values() for x in pair] + [float(peak), float(bandwidth)]
    wrong = [x for x in numbers if not 0 < x < math.inf]
    if wrong:
        raise ValueError(f"logarithms need finite, positive numbers, got {wrong}")
    figure, axes = canvas(height)
    ridge = peak / bandwidth
    places = [float(intensity) for intensity, _ in points.values()]
    x = np.array([min([*places, ridge]) / 3, ridge, max([*places, ridge]) * 3])
    axes.plot(x, np.minimum(peak, x * bandwidth), color=INK, lw=1.8, zorder=1)
    axes.axvline(ridge, color=FAINT, lw=1, ls=(0, (4, 2)), zorder=1)
    for i, (name, (intensity, rate)) in enumerate(points.items()):
        style = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 8, "linestyle": "none"}
        axes.plot([float(intensity)], [float(rate)], label=name, **style)
    logarithmic(axes, "x")
    logarithmic(axes, "y")
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    label_axes(axes, xlabel, ylabel, title)
    figure.legend(loc="outside upper center", ncols=2, borderpad=0.1)
    return figure

"""Points that were measured, and curves through them."""

from __future__ import annotations

from collections.abc import Mapping

from lookback.plots.figure import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    Figure,
    Numbers,
    array,
    canvas,
    label_axes,
    styled,
)


@styled
def fits(
    points: tuple[Numbers, Numbers],
    x: Numbers,
    curves: Mapping[str, Numbers],
    *,
    xlabel: str,
    ylabel: str,
    label: str = "data",
    title: str = "",
    height: float | int = 3.3,
) -> Figure:
    """Points as open rings, and one curve a name over them.

    Args:
        points: places and heights of the points, equally many.
        x: places at which the curves are known.
        curves: name → heights, one a place.
        xlabel, ylabel: what is on the axes, with its unit.
        label: what the points are.
        title: above the axes.
        height: of the figure in inches.

    Raises:
        ValueError: if there is no curve or too many, or numbers do not pair up.
    """
    x, (places, heights) = array(x), (array(side) for side in points)
    if not 1 <= len(curves) <= len(COLOURS):
        raise ValueError(f"a figure tells 1 to {len(COLOURS)} curves apart, got {len(curves)}")
    if x.ndim != 1:
        raise ValueError(f"x must be one row of places, got shape {x.shape}")
    if places.shape != heights.shape or places.ndim != 1:
        raise ValueError(f"points of shapes {places.shape} and {heights.shape} do not pair up")
    figure, axes = canvas(height)
    axes.plot(places, heights, "o", color=INK, markerfacecolor="none", label=label, zorder=3)
    for i, (name, values) in enumerate(curves.items()):
        values = array(values)
        if values.shape != x.shape:
            raise ValueError(f"{name!r} has {values.shape} values, but x has {len(x)} places")
        axes.plot(x, values, color=COLOURS[i], linestyle=DASHES[i], label=name)
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    label_axes(axes, xlabel, ylabel, title)
    figure.legend(loc="outside upper center", ncols=2 if len(curves) > 2 else 3, borderpad=0.1)
    return figure

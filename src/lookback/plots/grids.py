"""Matrices as grids of cells: weights, scores and masks, with tokens along the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle

from lookback.plots.figure import (
    FAINT,
    INK,
    WIDTH,
    Figure,
    Numbers,
    array,
    canvas,
    label_axes,
    matrix,
    styled,
)

SEQUENTIAL = LinearSegmentedColormap.from_list("ink", ["#FFFFFF", "#7FB9DB", "#0072B2", "#003A5C"])
DIVERGING = LinearSegmentedColormap.from_list(
    "signed", ["#8A3B00", "#E08A4F", "#FFFFFF", "#6FAFD6", "#00507D"]
)
MOST_NUMBERS = 10  # cells a side up to which each cell shows its number
MOST_LINES = 16  # cells a side up to which lines part them


@styled
def heatmap(
    values: Numbers,
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    *,
    xlabel: str = "key",
    ylabel: str = "query",
    label: str = "attention weight",
    title: str = "",
    open: Numbers | None = None,
    signed: bool = False,
    limits: tuple[float | int, float | int] | None = None,
    numbers: str | None = "{:.2f}",
) -> Figure:
    """A matrix as a grid of shaded cells, with its numbers where they fit.

    Args:
        values: matrix; row ``i`` is drawn ``i``-th from the top.
        rows, columns: labels along the sides, tokens say; positions where left out.
        xlabel, ylabel: what a column and a row stand for.
        label: what the shade means, with its unit.
        title: above the grid.
        open: boolean matrix; cells where it is False are hatched and show no number.
        signed: whether zero gets the middle of a two-sided shade.
        limits: values of the lightest and the darkest shade; the matrix's own where left out.
        numbers: format of a cell's number; None for none. Grids above 10 cells across have none.

    Raises:
        ValueError: if ``values`` is no matrix, or labels or ``open`` do not fit it.
    """
    values = matrix(values, "values")
    side = max(values.shape)
    height = 0.8 + (WIDTH - 1.7) * values.shape[0] / max(side, 5)
    figure, axes = canvas(min(max(height, 1.9), 5.2))
    norm = _norm(values, signed, limits)
    _grid(axes, values, rows, columns, norm, signed, open, numbers)
    label_axes(axes, xlabel, ylabel, title)
    shade = ScalarMappable(norm, DIVERGING if signed else SEQUENTIAL)
    figure.colorbar(shade, ax=axes, label=label, shrink=0.85, aspect=18)
    return figure


@styled
def heatmaps(
    grids: Mapping[str, Numbers],
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    *,
    across: int = 2,
    xlabel: str = "key",
    ylabel: str = "query",
    label: str = "attention weight",
    open: Numbers | None = None,
    signed: bool = False,
    numbers: str | None = "{:.1f}",
) -> Figure:
    """Several grids of one size on a common shade: one head each, say.

    Args:
        grids: title → matrix.
        across: grids side by side; 2 stays readable on a phone.
        rows, columns, xlabel, ylabel, label, open, signed, numbers: as :func:`heatmap`.

    Raises:
        ValueError: as :func:`heatmap`, and if there is no grid or the shapes differ.
    """
    named = {title: matrix(values, title) for title, values in grids.items()}
    if not named or across < 1:
        raise ValueError(f"need a grid and a column or more, got {len(named)} and {across}")
    shapes = {values.shape for values in named.values()}
    if len(shapes) > 1:
        raise ValueError(f"grids side by side need one shape, got {sorted(shapes)}")
    across = min(across, len(named))
    down = -(-len(named) // across)
    T, S = shapes.pop()
    height = min(0.5 + down * (0.45 + (WIDTH - 1.9) / across * min(T / S, 2)), 8.5)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    norm = _norm(np.stack(list(named.values())), signed, None)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for i, (axes, (title, values)) in enumerate(zip(panels, named.items(), strict=False)):
        fits = numbers if S * across <= MOST_NUMBERS else None
        _grid(axes, values, rows, columns, norm, signed, open, fits, across=across)
        below, left = i + across >= len(named), i % across == 0
        label_axes(axes, xlabel if below else "", ylabel if left else "", title)
    for axes in panels[len(named) :]:
        axes.set_visible(False)
    shade = ScalarMappable(norm, DIVERGING if signed else SEQUENTIAL)
    figure.colorbar(shade, ax=list(panels), label=label, shrink=0.7, aspect=22)
    return figure


@styled
def mask(
    allowed: Numbers | Mapping[str, Numbers],
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    *,
    xlabel: str = "key",
    ylabel: str = "query",
) -> Figure:
    """Masks as grids: an open cell is filled and dotted, a closed one hatched.

    Args:
        allowed: boolean matrix, True = may attend; or title → matrix, drawn side by side.
        rows, columns: labels along the sides; positions where left out.
        xlabel, ylabel: what a column and a row stand for.

    Raises:
        ValueError: if a mask is no matrix, or labels do not fit it.
    """
    named = allowed if isinstance(allowed, Mapping) else {"": allowed}
    named = {title: matrix(values, title or "a mask") for title, values in named.items()}
    if not named:
        raise ValueError("there is no mask to draw")
    ratio = max(values.shape[0] / values.shape[1] for values in named.values())
    wide = (WIDTH if len(named) > 1 else 0.7 * WIDTH) / len(named)
    figure = Figure(figsize=(wide * len(named), 0.9 + 0.82 * wide * ratio), layout="constrained")
    panels = figure.subplots(1, len(named), squeeze=False)[0]
    for i, (axes, (title, values)) in enumerate(zip(panels, named.items(), strict=True)):
        shades = np.where(values > 0, 0.35, 0.0)
        norm = Normalize(0, 1)
        _grid(axes, shades, rows, columns, norm, False, values > 0, None, across=len(named))
        if i:
            axes.set_yticks([])
        for row, column in np.argwhere(values > 0):
            axes.plot(column, row, "o", color=INK, markersize=5)
        label_axes(axes, xlabel, ylabel if i == 0 else "", title)
    return figure


def _grid(axes: Axes, values, rows, columns, norm, signed, open, numbers, across=1) -> None:
    T, S = values.shape
    closed = np.zeros((T, S), bool) if open is None else ~np.broadcast_to(array(open) > 0, (T, S))
    cmap = DIVERGING if signed else SEQUENTIAL
    axes.imshow(np.where(closed, np.nan, values), cmap=cmap, norm=norm, aspect="equal")
    for row, column in np.argwhere(closed):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor=FAINT, lw=0))
    if numbers is not None and max(T, S) <= MOST_NUMBERS:
        for row, column in np.argwhere(~closed & ~np.isnan(values)):
            light = sum(cmap(norm(values[row, column]))[:3]) > 1.5
            text = numbers.format(values[row, column])
            style = {"ha": "center", "va": "center", "color": INK if light else "white"}
            axes.text(column, row, text, fontsize=11 if S * across <= 7 else 9, **style)
    _ticks(axes.set_xticks, S, columns, "columns", room=32 // across)
    _ticks(axes.set_yticks, T, rows, "rows")
    axes.set_xticks(np.arange(S + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(T + 1) - 0.5, minor=True)
    if max(T, S) <= MOST_LINES:
        axes.grid(which="minor", color=FAINT, lw=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(True)


def _ticks(place, count: int, labels: Sequence[object] | None, name: str, room=None) -> None:
    """Name the cells of one side: all labels, turned where they exceed ``room`` characters; or
    without labels every position, every second, fifth, …"""
    if labels is not None and len(labels) != count:
        raise ValueError(f"{len(labels)} labels for {count} {name}")
    most = 8 if room is None else max(room // (len(str(count)) + 1), 1)
    steps = (step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power))
    step = next(step for step in steps if labels is not None or count <= most * step)
    at = list(range(0, count, step))
    texts = [str(i) if labels is None else str(labels[i]) for i in at]
    long = room is not None and sum(len(text) + 1 for text in texts) > room
    place(at, texts, rotation=60 if long else 0)


def _norm(values: np.ndarray, signed: bool, limits) -> Normalize:
    least, most = limits or (np.nanmin(values), np.nanmax(values))
    if signed:
        reach = max(abs(least), abs(most)) or 1.0
        return Normalize(-reach, reach)
    if limits is None:
        least = min(least, 0.0)
    return Normalize(least, most if most > least else least + 1)

"""Lines with their spread, bars with every seed, and distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lookback.measure import Spread
from lookback.plots.figure import (
    COLOURS,
    DASHES,
    FAINT,
    HATCHES,
    INK,
    MARKERS,
    Figure,
    Numbers,
    array,
    canvas,
    label_axes,
    logarithmic,
    styled,
)

MOST_TICKS = 9  # positions up to which a logarithmic axis names each


@styled
def lines(
    x: Numbers,
    series: Mapping[str, Numbers | Sequence[Spread]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    references: Mapping[str, float | int] | None = None,
    height: float | int = 3.3,
) -> Figure:
    """One line a name; a name with several runs gets their mean and a band from least to most.

    Args:
        x: positions on the horizontal axis.
        series: name → values of shape ``(len(x),)``, or ``(runs, len(x))``; or a measured spread a
            position, drawn as its median with a band from quartile to quartile.
        xlabel, ylabel: what is on the axes, with its unit.
        title: above the axes.
        log_x, log_y: whether an axis is logarithmic.
        references: name → height of a thin horizontal line to compare with.
        height: of the figure in inches.

    Raises:
        ValueError: if there is nothing to draw, ``x`` is not one row, or values do not pair up
            with it.
    """
    x = array(x)
    if x.ndim != 1:
        raise ValueError(f"x must be one row of positions, got shape {x.shape}")
    _check_series(series, len(COLOURS))
    figure, axes = canvas(height)
    for i, (name, values) in enumerate(series.items()):
        middle, low, high = _middle_and_band(values)
        if middle.shape != x.shape:
            raise ValueError(f"{name!r} has {middle.shape} values, but x has {len(x)} positions")
        style = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": DASHES[i]}
        step = max(1, len(x) // 12)  # markers tell lines apart; one a point would hide them
        axes.plot(x, middle, label=name, markevery=(i % step, step), **style)
        if (low < high).any():
            axes.fill_between(x, low, high, color=COLOURS[i], alpha=0.18, lw=0)
    _reference_lines(axes, references)
    if log_x:
        logarithmic(axes, "x")
        if len(x) <= MOST_TICKS:
            axes.set_xticks(x, [f"{at:g}" for at in x])
            axes.minorticks_off()
    if log_y:
        logarithmic(axes, "y")
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    label_axes(axes, xlabel, ylabel, title)
    _legend(figure, axes)
    return figure


@styled
def bars(
    series: Mapping[str, Numbers | float | int | Mapping[str, Numbers | float | int]],
    *,
    ylabel: str,
    xlabel: str = "",
    title: str = "",
    numbers: str = "{:.2f}",
    log_y: bool = False,
    references: Mapping[str, float | int] | None = None,
    height: float | int = 3.3,
) -> Figure:
    """One bar a name, with its number; of several runs the mean, and a dot a run.

    Args:
        series: name → value or values, one a run; or group → (name → value or values), which
            draws each group's bars side by side.
        ylabel, xlabel: what is on the axes, with its unit.
        title: above the axes.
        numbers: format of the number above a bar; empty for none.
        log_y: whether the vertical axis is logarithmic.
        references: name → height of a thin horizontal line to compare with.
        height: of the figure in inches.

    Raises:
        ValueError: if there is nothing to draw, or a bar has no values.
    """
    grouped = any(isinstance(value, Mapping) for value in series.values())
    groups = series if grouped else {name: {"": value} for name, value in series.items()}
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    _check_series(dict.fromkeys(names), len(COLOURS))
    figure, axes = canvas(height)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        for place, (group, values) in enumerate(groups.items()):
            if name not in values:
                continue
            at = place + (i - (len(names) - 1) / 2) * width
            which = i if grouped else place
            _bar(axes, at, width * 0.92, f"{group} {name}".strip(), values[name], which, numbers)
        if grouped:
            style = {"facecolor": COLOURS[i], "edgecolor": INK, "alpha": 0.75, "label": name}
            axes.bar([0], [np.nan], hatch=HATCHES[i], **style)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.margins(y=0.14)
    if log_y:
        logarithmic(axes, "y")
    _reference_lines(axes, references)
    label_axes(axes, xlabel, ylabel, title)
    _legend(figure, axes, least=1)
    return figure


@styled
def histograms(
    series: Mapping[str, Numbers],
    *,
    xlabel: str,
    bins: int = 40,
    ylabel: str = "share of all, per unit",
    title: str = "",
    height: float | int = 3.3,
) -> Figure:
    """How samples are distributed: one outline a name, on common bins, of area 1.

    Args:
        series: name → samples, of any shape.
        xlabel, ylabel: what is on the axes, with its unit.
        bins: number of bins from the least sample to the greatest.
        title: above the axes.
        height: of the figure in inches.

    Raises:
        ValueError: if there is nothing to draw, or ``bins`` is below 1.
    """
    if bins < 1:
        raise ValueError(f"a histogram needs at least 1 bin, got {bins}")
    _check_series(series, len(COLOURS))
    samples = {name: array(values).ravel() for name, values in series.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins)
    figure, axes = canvas(height)
    for i, (name, values) in enumerate(samples.items()):
        style = {"color": COLOURS[i], "linestyle": DASHES[i]}
        share, _ = np.histogram(values, edges, density=True)
        axes.stairs(share, edges, label=name, linewidth=1.8, **style)
    label_axes(axes, xlabel, ylabel, title)
    _legend(figure, axes)
    return figure


def _middle_and_band(values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if isinstance(values, list | tuple) and all(isinstance(x, Spread) for x in values):
        rows = array([[x.median, x.low, x.high] for x in values]).reshape(-1, 3)
        return rows[:, 0], rows[:, 1], rows[:, 2]
    runs = array(values)
    if runs.ndim < 2:
        return runs, runs, runs
    return runs.mean(0), runs.min(0), runs.max(0)


def _bar(axes, at, width, name, values, which, numbers) -> None:
    runs = np.atleast_1d(array(values if not isinstance(values, float | int) else [values])).ravel()
    if not runs.size:
        raise ValueError(f"the bar {name!r} has no values")
    style = {"color": COLOURS[which % len(COLOURS)], "hatch": HATCHES[which % len(HATCHES)]}
    axes.bar([at], [runs.mean()], width, alpha=0.75, edgecolor=INK, **style)
    if len(runs) > 1:
        spread = np.linspace(-0.2, 0.2, len(runs)) * width
        axes.plot(at + spread, runs, "o", color=INK, markersize=4, markerfacecolor="white")
    if numbers:
        style = {"ha": "center", "textcoords": "offset points", "fontsize": 11}
        top = max(runs.max(), 0) if runs.mean() >= 0 else 0
        axes.annotate(numbers.format(runs.mean()), (at, top), (0, 5), va="bottom", **style)


def _reference_lines(axes, references: Mapping[str, float | int] | None) -> None:
    for i, (name, at) in enumerate((references or {}).items()):
        axes.axhline(at, color=INK, lw=1, ls=(0, (4 - i % 3, 2)), label=name, zorder=1)


def _legend(figure, axes, least: int = 2) -> None:
    """Above the axes, so that it hides nothing; none where fewer than ``least`` names are."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) >= least:
        columns = _columns(labels)
        more = -(-len(labels) // columns) - 1
        figure.set_figheight(figure.get_figheight() + 0.23 * more)
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, borderpad=0.1)


def _columns(labels: Sequence[str]) -> int:
    longest = max(len(label) for label in labels) + 6  # and the sample of the line
    return max(1, min(len(labels), 56 // longest))


def _check_series(series: Mapping, most: int) -> None:
    if not 1 <= len(series) <= most:
        raise ValueError(f"a figure tells 1 to {most} series apart, got {len(series)}")

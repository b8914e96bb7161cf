"""What every figure shares: its class, its style, its colours."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

Numbers = Tensor | np.ndarray | Sequence

WIDTH = 5.2  # inches; 499 px, so that text stays above 10 px on a phone
INK, FAINT = "#1a1a1a", "#767676"
# Okabe and Ito's palette, darkened to 3:1 on white; lightness flips in the dark theme, hue stays
COLOURS = ("#0072B2", "#D55E00", "#00825F", "#A3457F", "#333333", "#8C6D00", "#2A8FC9", "#7A3E00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "++")

STYLE = {
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "lookback",
}
styled = matplotlib.rc_context(STYLE)


class Figure(MatplotlibFigure):
    """A figure that a notebook shows as SVG, the same bytes for the same numbers."""

    def svg(self) -> str:
        """The figure as SVG text: transparent, without a date."""
        text = io.StringIO()
        with matplotlib.rc_context(STYLE):
            if self.get_layout_engine() is not None:
                for _ in range(2):  # ticks settle in the first, and room for them in the second
                    self.draw_without_rendering()
                self.set_layout_engine("none")  # laid out anew, it would move by a hair
            nothing = {"Date": None, "Creator": None}
            self.savefig(text, format="svg", transparent=True, metadata=nothing)
        return text.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"image/svg+xml": self.svg(), "text/plain": "<Figure>"}


def canvas(height: float | int = 3.3, *, width: float | int = WIDTH) -> tuple[Figure, Axes]:
    """A figure of this size in inches and its one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def array(numbers: Numbers) -> np.ndarray:
    """Numbers of any kind as a float64 array; None becomes NaN."""
    if isinstance(numbers, Tensor):
        numbers = numbers.detach().cpu().double().numpy()
    elif not isinstance(numbers, np.ndarray):
        numbers = np.array([array(x) if isinstance(x, Tensor) else x for x in numbers])
    return numbers.astype(np.float64)


def matrix(numbers: Numbers, name: str) -> np.ndarray:
    """Numbers as a matrix that is not empty.

    Raises:
        ValueError: naming the shape otherwise.
    """
    found = array(numbers)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{name} must be a matrix with entries, got shape {found.shape}")
    return found


def label_axes(axes: Axes, xlabel: str, ylabel: str, title: str) -> None:
    """Names of both axes, units in them, and a title where there is one."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title)


def logarithmic(axes: Axes, which: str) -> None:
    """Make the axis ``"x"`` or ``"y"`` logarithmic, when all is drawn.

    Powers of ten are too rare on less than two decades; there 1, 2, 5, 10, 20 are named instead.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    if high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 10 else range(1, 10)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())

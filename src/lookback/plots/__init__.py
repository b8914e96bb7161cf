"""Figures of the book. Nothing else in the library imports matplotlib; import every name from here.

A function takes numbers (tensors, arrays or lists) and returns a :class:`Figure`, which a notebook
shows as SVG. Figures have no background of their own, are drawn dark on light, and never tell
things apart by colour alone: markers, dashes, hatches and printed numbers say the same.
"""

from lookback.plots.curves import bars, histograms, lines
from lookback.plots.figure import COLOURS, Figure
from lookback.plots.fits import fits
from lookback.plots.grids import heatmap, heatmaps, mask
from lookback.plots.rooflines import roofline
from lookback.plots.shapes import arrows, graph, links

__all__ = [
    "COLOURS",
    "Figure",
    "arrows",
    "bars",
    "fits",
    "graph",
    "heatmap",
    "heatmaps",
    "histograms",
    "lines",
    "links",
    "mask",
    "roofline",
]

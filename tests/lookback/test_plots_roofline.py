"""The roof of a device and the points under it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lookback import plots

POINTS = {"copy": (0.25, 2.0), "product": (32.0, 30.0)}


def test_the_roof_rises_with_the_bandwidth_and_ends_at_the_peak():
    axes = plots.roofline(POINTS, peak=40.0, bandwidth=10.0).axes[0]
    roof = axes.lines[0]
    x, y = roof.get_xdata(), roof.get_ydata()
    np.testing.assert_allclose(y, np.minimum(40.0, 10.0 * x))
    assert 4.0 in x, "the roof has its corner where both limits meet"
    assert x[0] < 0.25
    assert x[-1] > 32.0


def test_points_stand_where_they_were_measured_and_differ_by_marker():
    axes = plots.roofline(POINTS, peak=40.0, bandwidth=10.0).axes[0]
    drawn = {line.get_label(): line for line in axes.lines if line.get_label() in POINTS}
    assert {n: (d.get_xdata()[0], d.get_ydata()[0]) for n, d in drawn.items()} == POINTS
    assert len({line.get_marker() for line in drawn.values()}) == 2


def test_a_roofline_is_the_same_bytes_each_time():
    first, second = (plots.roofline(POINTS, peak=40, bandwidth=10).svg() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("points", "peak", "words"),
    [
        ({}, 1.0, "got 0"),
        (POINTS, 0.0, "positive"),
        ({"a": (-1.0, 1.0)}, 1.0, r"got \[-1.0\]"),
        ({"a": (1.0, math.nan)}, 1.0, r"got \[nan\]"),
        (POINTS, math.nan, r"got \[nan\]"),
        (POINTS, math.inf, r"finite, positive numbers, got \[inf\]"),
    ],
)
def test_a_roofline_refuses_what_has_no_logarithm(points, peak, words):
    with pytest.raises(ValueError, match=words):
        plots.roofline(points, peak=peak, bandwidth=1.0)

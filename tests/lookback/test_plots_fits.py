"""A fit shows the points that were measured and the curves through them, and nothing else."""

from __future__ import annotations

import pytest
import torch

from lookback import plots

X = torch.linspace(0, 1, 5)


def test_points_and_curves_stand_where_their_numbers_say():
    figure = plots.fits(([0.2, 0.8], [1, 3]), X, {"line": 2 * X}, xlabel="x", ylabel="y")
    points, curve = figure.axes[0].get_lines()
    assert points.get_xydata().tolist() == [[0.2, 1], [0.8, 3]]
    assert curve.get_xydata().tolist() == [[x, 2 * x] for x in X.tolist()]
    assert points.get_linestyle() == "None" != curve.get_linestyle()


def test_curves_differ_in_their_dashes_and_each_has_its_name():
    figure = plots.fits(([0], [1]), X, {"a": X, "b": -X}, xlabel="x", ylabel="y", label="seen")
    assert len({str(line.get_linestyle()) for line in figure.axes[0].get_lines()[1:]}) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["seen", "a", "b"]


@pytest.mark.parametrize(
    ("points", "x", "curves", "words"),
    [
        (([0, 1], [1]), X, {"a": X}, "do not pair up"),
        (([0], [1]), X, {}, "got 0"),
        (([0], [1]), X, {"a": X[:3]}, "'a' has"),
        (([0], [1]), X[0], {"a": X[0]}, r"x must be one row of places, got shape \(\)"),
    ],
)
def test_a_fit_refuses_numbers_that_do_not_pair_up(points, x, curves, words, no_shape_checks):
    with pytest.raises(ValueError, match=words):
        plots.fits(points, x, curves, xlabel="x", ylabel="y")

"""Figures hold the numbers that they were given, and are the same bytes each time."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

import lookback
from lookback import masks, measure, plots

TOKENS = ["the", "cat", "sat"]
FIGURES = {
    "heatmap": lambda: plots.heatmap(torch.eye(3), TOKENS, TOKENS),
    "heatmaps": lambda: plots.heatmaps({"a": torch.eye(3), "b": torch.ones(3, 3)}),
    "mask": lambda: plots.mask({"past": masks.causal(3), "all": torch.ones(3, 3).bool()}),
    "lines": lambda: plots.lines(
        [1, 2, 4], {"a": [1, 2, 3], "b": torch.rand(3, 3)}, xlabel="d", ylabel="y", log_x=True
    ),
    "bars": lambda: plots.bars({"a": 1, "b": [1.0, 2.0]}, ylabel="y", references={"one": 1}),
    "histograms": lambda: plots.histograms({"a": torch.arange(9.0)}, xlabel="score", bins=3),
    "arrows": lambda: plots.arrows({"q": [1, 2], "k": [0, -1]}, xlabel="x", ylabel="y"),
    "links": lambda: plots.links([0.5, 0.25, 0.25], TOKENS, query=2),
    "graph": lambda: plots.graph({"a": (0, 0), "b": (1, 0)}, [("a", "b")], path=["a", "b"]),
}


def texts(figure) -> list[str]:
    axes = figure.axes[0]
    return [t.get_text() for t in axes.texts]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_the_same_transparent_svg_each_time(draw):
    torch.manual_seed(0)
    figure = draw()
    bundle = figure._repr_mimebundle_()
    torch.manual_seed(0)
    assert draw().svg() == bundle["image/svg+xml"] == figure.svg()
    root = ET.fromstring(bundle["image/svg+xml"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    background = root.find(".//*[@id='patch_1']/*").get("style")
    assert background == "fill: none"
    assert "<dc:date>" not in bundle["image/svg+xml"]


def test_a_heatmap_shows_each_number_in_its_cell_and_hides_closed_ones():
    values = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    figure = plots.heatmap(values, ["a", "b"], ["c", "d"], open=masks.causal(2))
    axes = figure.axes[0]
    assert texts(figure) == ["0.25", "0.50", "0.50"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["c", "d"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    drawn = axes.images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), [[False, True], [False, False]])
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 1


def test_a_large_heatmap_leaves_numbers_out_and_a_signed_one_is_white_at_zero():
    figure = plots.heatmap(torch.linspace(-1, 3, 144).reshape(12, 12), signed=True)
    image = figure.axes[0].images[0]
    assert texts(figure) == []
    assert image.norm(0.0) == 0.5
    assert image.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)


def test_heatmaps_share_one_shade():
    figure = plots.heatmaps({"small": torch.full((2, 2), 0.1), "large": torch.full((2, 2), 0.9)})
    panels = [axes.images[0] for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["small", "large"]
    assert panels[0].norm(0.9) == panels[1].norm(0.9) == pytest.approx(1.0)


def test_a_line_is_the_mean_of_its_runs_and_the_band_reaches_from_least_to_most():
    runs = torch.tensor([[1.0, 2.0], [3.0, 8.0]])
    figure = plots.lines([10, 20], {"a": runs}, xlabel="T", ylabel="ms", references={"limit": 5})
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2.0, 5.0])
    corners = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} >= {(10, 1), (10, 3), (20, 2), (20, 8)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("T", "ms")
    assert list(axes.lines[1].get_ydata()) == [5, 5]


def test_measured_spreads_are_drawn_as_median_and_quartiles():
    spreads = [measure.Spread(2.0, 1.0, 4.0, 9), measure.Spread(3.0, 3.0, 5.0, 9)]
    axes = plots.lines([1, 2], {"a": spreads}, xlabel="T", ylabel="s").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2, 3])
    corners = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} >= {(1, 1), (1, 4), (2, 3), (2, 5)}


def test_lines_differ_by_marker_and_dash_as_well_as_by_colour():
    figure = plots.lines([1, 2], {n: [1, 2] for n in "abcdefgh"}, xlabel="x", ylabel="y")
    drawn = figure.axes[0].lines
    assert len({line.get_color() for line in drawn}) == 8
    assert len({line.get_marker() for line in drawn}) == 8
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 8


def test_a_bar_is_the_mean_with_a_dot_a_run_and_its_number():
    figure = plots.bars({"one": [1.0, 2.0, 6.0], "two": 0.5}, ylabel="accuracy")
    axes = figure.axes[0]
    assert [patch.get_height() for patch in axes.patches] == [3.0, 0.5]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 2, 6])
    assert texts(figure) == ["3.00", "0.50"]


def test_grouped_bars_stand_side_by_side_and_may_be_missing():
    figure = plots.bars({"x": {"a": 1.0, "b": 2.0}, "y": {"b": 3.0}}, ylabel="n", numbers="")
    bars = [p for p in figure.axes[0].patches if np.isfinite(p.get_height())]
    assert [(round(p.get_center()[0], 1), p.get_height()) for p in bars] == [
        (-0.2, 1.0),
        (0.2, 2.0),
        (1.2, 3.0),
    ]


def test_a_histogram_has_area_one():
    figure = plots.histograms({"a": torch.randn(100), "b": torch.randn(50)}, xlabel="x", bins=10)
    for stairs in figure.axes[0].patches:
        data = stairs.get_data()
        assert (data.values * np.diff(data.edges)).sum() == pytest.approx(1)


def test_links_are_as_wide_as_their_weights():
    figure = plots.links([0.0, 0.2, 0.8], TOKENS, query=2)
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert np.diff(widths) == pytest.approx([0.2 * 9, 0.6 * 9])


def test_drawing_leaves_style_and_arguments_as_they_were():
    import matplotlib

    before = dict(matplotlib.rcParams)
    values = torch.rand(3, 3, requires_grad=True)
    kept = values.detach().clone()
    plots.heatmap(values).svg()
    assert dict(matplotlib.rcParams) == before
    assert torch.equal(values.detach(), kept)


def test_only_plots_imports_matplotlib():
    package = Path(lookback.__file__).parent
    for path in package.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
        assert "matplotlib" not in names or path.parent.name == "plots", path
        if path.parent.name == "plots":
            assert "pyplot" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.heatmap(torch.rand(3)), r"must be a matrix .* got shape \(3,\)"),
        (lambda: plots.heatmap(torch.rand(0, 3)), "must be a matrix"),
        (lambda: plots.heatmap(torch.rand(2, 3), TOKENS), "3 labels for 2 rows"),
        (lambda: plots.heatmaps({}), "need a grid"),
        (lambda: plots.heatmaps({"a": torch.eye(2), "b": torch.eye(3)}), "need one shape"),
        (lambda: plots.mask({}), "no mask"),
        (lambda: plots.mask(torch.ones(3).bool()), "must be a matrix"),
        (lambda: plots.lines([1, 2], {}, xlabel="", ylabel=""), "1 to 8 series apart, got 0"),
        (lambda: plots.lines([1, 2], {"a": [1]}, xlabel="", ylabel=""), "but x has 2 positions"),
        (
            lambda: plots.lines(torch.tensor(1.0), {"a": torch.tensor(2.0)}, xlabel="", ylabel=""),
            r"x must be one row of positions, got shape \(\)",
        ),
        (lambda: plots.lines(torch.eye(2), {"a": [1]}, xlabel="", ylabel=""), r"shape \(2, 2\)"),
        (lambda: plots.bars({"a": []}, ylabel=""), "'a' has no values"),
        (lambda: plots.histograms({"a": [1.0]}, xlabel="", bins=0), "at least 1 bin, got 0"),
        (lambda: plots.arrows({}, xlabel="", ylabel=""), "no vector"),
        (lambda: plots.arrows({"q": [1, 2, 3]}, xlabel="", ylabel=""), "'q' has 3"),
        (lambda: plots.links([0.5], TOKENS, query=0), "3 tokens but weights of shape"),
        (lambda: plots.links([0.5] * 3, TOKENS, query=3), "query 3 is not a position of 3"),
        (lambda: plots.graph({}, []), "there is no node to draw"),
        (lambda: plots.graph({"a": (0, 0)}, [("a", "b")]), "'b', which is no node"),
        (lambda: plots.graph({"a": (0, 0), "b": (1, 0)}, [], path=["a", "b"]), "no edges"),
    ],
)
def test_figures_name_what_does_not_fit(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    ("least", "most", "named"),
    [(2, 6, ["3", "5"]), (2, 60, ["5", "10", "20"]), (1, 1e4, ["$\\mathdefault{10^{2}}$"])],
)
def test_a_short_logarithmic_axis_has_plain_numbers(least, most, named):
    on_lines = plots.lines(range(20), {"a": [least, most] * 10}, xlabel="x", ylabel="y", log_y=True)
    on_bars = plots.bars({"a": least, "b": most}, ylabel="y", log_y=True)
    for figure in (on_lines, on_bars):
        figure.draw_without_rendering()
        ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert set(named) <= set(ticks), ticks
        assert ("6 \\times 10" in "".join(ticks)) is False

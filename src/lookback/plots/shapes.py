"""Drawings that are neither curve nor grid: vectors, links between words, graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from lookback.plots.figure import COLOURS, FAINT, INK, Figure, Numbers, array, canvas, styled


@styled
def arrows(
    vectors: Mapping[str, Numbers],
    *,
    xlabel: str,
    ylabel: str,
    groups: Mapping[str, str] | None = None,
    title: str = "",
    height: float | int = 3.9,
) -> Figure:
    """Vectors of the plane as arrows from the origin, each with its name at its tip.

    Args:
        vectors: name → two numbers.
        xlabel, ylabel: what the two numbers are.
        groups: name → group; a group has its own colour and dash, and its name in the legend.
        title: above the axes.
        height: of the figure in inches.

    Raises:
        ValueError: if there is no vector, or one has not two numbers.
    """
    tips = {name: array(vector).ravel() for name, vector in vectors.items()}
    if not tips:
        raise ValueError("there is no vector to draw")
    for name, tip in tips.items():
        if tip.shape != (2,):
            raise ValueError(f"an arrow in the plane has 2 numbers, but {name!r} has {len(tip)}")
    groups = groups or {}
    kinds = list(dict.fromkeys(groups.get(name, "") for name in tips))
    figure, axes = canvas(height)
    for name, tip in tips.items():
        kind = kinds.index(groups.get(name, ""))
        dashed = ("-", "--", ":")[kind % 3]
        style = {"color": COLOURS[kind % len(COLOURS)], "linestyle": dashed, "linewidth": 1.8}
        shape = {"arrowstyle": "-|>,head_length=.5,head_width=.25", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip, (0, 0), arrowprops=style | shape)
        length = np.hypot(*tip) or 1.0
        x, y = tip / length
        away = {"ha": ("right", "center", "left")[round(x) + 1], "va": "center"}
        place = (6 * x, 6 * x + 13 * y)  # above an arrow that lies flat
        axes.annotate(name, tip, place, textcoords="offset points", color=style["color"], **away)
    for i, kind in enumerate(kinds):
        if kind:
            dashed = ("-", "--", ":")[i % 3]
            axes.plot([], [], color=COLOURS[i % len(COLOURS)], ls=dashed, label=kind)
    reach = 1.25 * max(np.abs(tip).max() for tip in tips.values())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel=xlabel, ylabel=ylabel, title=title)
    axes.set_aspect("equal")
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.axvline(0, color=FAINT, lw=0.8)
    if any(kinds):
        figure.legend(loc="outside upper center", ncols=len(kinds))
    return figure


@styled
def links(
    weights: Numbers, tokens: Sequence[str], *, query: int, label: str = "attention weight"
) -> Figure:
    """What one word looks at: lines to every word, wide where the weight is large.

    Args:
        weights: one weight a token, from 0 to 1.
        tokens: the words in order.
        query: position of the word that looks.
        label: what the numbers under the words are.

    Raises:
        ValueError: if weights and tokens do not pair up, or ``query`` is none of them.
    """
    weights = array(weights)
    if weights.shape != (len(tokens),):
        raise ValueError(f"{len(tokens)} tokens but weights of shape {weights.shape}")
    if not 0 <= query < len(tokens):
        raise ValueError(f"query {query} is not a position of {len(tokens)} tokens")
    figure, axes = canvas(2.4)
    for i, (token, weight) in enumerate(zip(tokens, weights, strict=True)):
        line = {"color": COLOURS[0], "linewidth": 0.4 + 9 * weight, "alpha": 0.75}
        axes.plot([query, i], [0.9, 0.12], solid_capstyle="butt", zorder=1, **line)
        axes.text(i, 0, token, ha="center", va="center")
        axes.text(i, -0.2, f"{weight:.2f}", ha="center", va="center", color=INK, fontsize=11)
    axes.text(query, 1, tokens[query], ha="center", va="center", weight="bold")
    axes.set(xlim=(-0.6, len(tokens) - 0.4), ylim=(-0.45, 1.12))
    axes.text((len(tokens) - 1) / 2, -0.4, label, ha="center", va="center", fontsize=11)
    axes.axis("off")
    return figure


@styled
def graph(
    nodes: Mapping[str, tuple[float | int, float | int]],
    edges: Sequence[tuple[str, str]],
    *,
    path: Sequence[str] = (),
    title: str = "",
    height: float | int = 3.0,
) -> Figure:
    """Nodes and directed edges, with one path drawn wide.

    Args:
        nodes: name → place.
        edges: pairs of names, from and to.
        path: names in order; every step must be an edge.
        title: above the drawing.
        height: of the figure in inches.

    Raises:
        ValueError: if there is no node, an edge has an unknown end, or a step of the path is no
            edge.
    """
    if not nodes:
        raise ValueError("there is no node to draw")
    for edge in edges:
        for end in edge:
            if end not in nodes:
                raise ValueError(f"the edge {edge} ends at {end!r}, which is no node")
    steps = set(pairwise(path))
    if not steps <= set(edges):
        raise ValueError(f"the path takes steps that are no edges: {sorted(steps - set(edges))}")
    figure, axes = canvas(height)
    for start, end in edges:
        on = (start, end) in steps
        colour = COLOURS[1] if on else FAINT
        style = {"color": colour, "linewidth": 3.0 if on else 0.9, "shrinkA": 13, "shrinkB": 13}
        shape = {"arrowstyle": "-|>", "mutation_scale": 16 if on else 10}
        order = 3 if on else 1
        axes.annotate("", nodes[end], nodes[start], arrowprops=style | shape, zorder=order)
    for name, (x, y) in nodes.items():
        on = name in path
        ring = {"boxstyle": "circle,pad=0.3", "facecolor": "white", "linewidth": 2.5 if on else 1}
        ring |= {"edgecolor": COLOURS[1] if on else INK}
        axes.text(x, y, name, ha="center", va="center", bbox=ring, fontsize=11, zorder=4)
    places = np.array(list(nodes.values()), float)
    axes.set(xlim=_around(places[:, 0]), ylim=_around(places[:, 1]), title=title)
    axes.axis("off")
    return figure


def _around(places: np.ndarray) -> tuple[float, float]:
    margin = 0.12 * (np.ptp(places) or 1.0) + 0.15
    return places.min() - margin, places.max() + margin

"""The distribution of a class's scores as a drawing in a page."""

from __future__ import annotations

from proctor.findings import Scores

HISTOGRAM_STYLE = """
.plot { max-width: 34rem; }
.plot svg { width: 100%; display: block; }
.plot rect { fill: var(--bar); } .plot text { fill: var(--ink); font-size: 12px;
  paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.plot .soft { fill: var(--soft); } .plot line { stroke: var(--soft); stroke-width: 1; }
.plot .median { stroke: var(--bad); stroke-dasharray: 4 3; }
.plot .middle { text-anchor: middle; } .plot .end { text-anchor: end; }
"""


def histogram(scores: Scores) -> str:
    """How many students have which share of the points, in ten bins; empty where nobody has any."""
    if not scores.shares:
        return ""
    top = max(scores.bins)
    median = 10 + 380 * scores.median
    side, shift = ("end", -5) if scores.median > 0.5 else ("", 5)
    marks = [
        f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="2" y2="150"/>'
        f'<text class="{side}" x="{median + shift:.1f}" y="12">median {scores.median:.0%}</text>'
        '<line x1="10" x2="390" y1="150.5" y2="150.5"/>'
    ]
    for i, number in enumerate(scores.bins):
        left, height = 10 + 38 * i, 115 * number / top
        if number:
            marks.append(
                f'<rect x="{left + 2}" y="{150 - height:.1f}" width="34" height="{height:.1f}"/>'
                f'<text class="middle" x="{left + 19}" y="{145 - height:.1f}">{number}</text>'
            )
        marks.append(f'<text class="soft middle" x="{left}" y="167">{10 * i}</text>')
    marks.append(
        '<text class="soft middle" x="388" y="167">100</text>'
        '<text class="soft middle" x="200" y="186">share of the points, in percent</text>'
    )
    said = "; ".join(
        f"{10 * i} to {10 * i + 10} percent: {n}" for i, n in enumerate(scores.bins) if n
    )
    return (
        '<section><h2>Scores</h2><div class="card plot"><svg viewBox="0 0 400 190" role="img" '
        f'aria-label="How many students have which share of the points. {said}. '
        f'The median is {scores.median:.0%}.">{"".join(marks)}</svg></div></section>'
    )

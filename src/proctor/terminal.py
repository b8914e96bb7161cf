"""What the terminal shows of a run, nothing of it taken for a command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

# nothing that is printed here is markup, so that no text of a submission can be
console = Console(highlight=False, markup=False, emoji=False)
LIMITS_WARNING = (
    "graded at level limits: student code could read and change whatever this user can; "
    "only for submissions that you trust"
)


def show_outcome(place: Any, outcome: Any, as_json: bool) -> None:
    """A table of every student's score and first mistake; as one JSON object where asked for."""
    assignment = outcome.exercise.assignment
    if as_json:
        rows = [
            {
                "student": r.student,
                "earned": r.earned,
                "points": r.points,
                "reason": r.reason,
                "checks": {c.grade_id: c.earned for c in r.checks},
                "notes": [f"{n.kind}: {n.text}" for n in (*r.intake, *r.integrity)],
            }
            for r in outcome.records.values()
        ]
        fresh = len(outcome.fresh)
        data = {"assignment": assignment, "level": outcome.level, "graded_now": fresh}
        data |= {"submissions": rows, "odd": outcome.odd, "unwritten": outcome.unwritten}
        print(json.dumps(data))
        return
    table = Table(
        "student",
        "score",
        "points",
        "what was lost, and what the student is told first",
        title=assignment,
        title_justify="left",
    )
    for record in outcome.records.values():
        share = f"{record.earned / record.points:.0%}" if record.points else "–"
        points = f"{record.earned:g} / {record.points:g}"
        table.add_row(plain(record.student), share, points, plain("\n".join(_told(record))))
    console.print(table)
    for sentence in outcome.odd:
        console.print(f"not graded · {plain(sentence)}")
    for sentence in outcome.unwritten:
        console.print(f"not written · {plain(sentence)}")
    if not outcome.records:
        console.print(f"No submission in {place.submitted}: put them at STUDENT/{assignment}/…")
    if outcome.level == "limits":
        console.print(f"Warning: {LIMITS_WARNING}.", style="bold")
    graded, total = len(outcome.fresh), len(outcome.records)
    console.print(f"{graded} marked now, {total - graded} known; isolation level {outcome.level}.")
    console.print(f"class report: {place.report_path(assignment)}", soft_wrap=True)


def _told(record: Any) -> Iterator[str]:
    if record.reason:
        yield f"not run: {record.reason}"
        return
    for task, checks in record.tasks().items():
        lost = [c for c in checks if c.earned < c.points]
        if lost:
            points = sum(c.points - c.earned for c in lost)
            yield f"{task} −{points:g}: {lost[0].diagnosis}"


def points(value: float | None) -> str:
    """A number of points; a dash where there is none."""
    return "–" if value is None else f"{value:g}"


def plain(text: str) -> str:
    """A text from a submission, with nothing that a terminal takes for a command."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)

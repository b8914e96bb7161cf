"""The name of a grade record: a hash of what determines it.

So grading again runs only what changed, and two graders give one record one name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proctor.records import Cell


def cells_text(cells: Iterable[Cell]) -> str:
    """The student's cells as one text: equal exactly where every name and source is equal."""
    return canonical([[cell.grade_id, cell.source] for cell in cells])


def record_key(
    *,
    assignment: str,
    student: str,
    cells: Iterable[Cell],
    steps: Iterable[tuple[str, int]],
    checks: Iterable[tuple[str, float, str]],
    versions: Mapping[str, str],
    seed: str,
    isolation: str,
    limits: Mapping[str, float],
) -> str:
    """The name of a record: a hash of everything that determines it.

    Args:
        assignment: ``NN_name``.
        student: whose cells they are; equal cells of two students make two records.
        cells: the student's cells, in the order in which they run.
        steps: what runs in which order, as :class:`proctor.intake.Submission` says.
        checks: ``grade_id``, points and source, hidden tests included, of every check; and, with
            0 points, of every locked cell that runs before them.
        versions: of the engine, the library and whatever else the checks call.
        seed: in hexadecimal.
        isolation: the level of the walls.
        limits: the budgets, as :meth:`proctor.limits.Limits.as_dict` gives them.

    Returns:
        32 hexadecimal digits.
    """
    parts = {
        "assignment": assignment,
        "student": student,
        "cells": cells_text(cells),
        "steps": [[kind, i] for kind, i in steps],
        "checks": [[name, float(points), source] for name, points, source in checks],
        "versions": dict(versions),
        "seed": seed,
        "isolation": isolation,
        "limits": {name: float(value) for name, value in limits.items()},
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]


def canonical(value: Any) -> str:
    """Plain data as text: equal data give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

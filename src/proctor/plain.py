"""Plain ``nbgrader autograde``, with its verdicts as data: what the engine's are compared with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat

from proctor import release


@dataclass(frozen=True)
class Check:
    """What one graded cell gave: points earned, points there were, and the message shown."""

    earned: float
    points: float
    message: str = ""


@dataclass(frozen=True)
class Marks:
    """What one submission earned, check by check; ``error`` says why where there is nothing."""

    checks: dict[str, Check]
    error: str = ""

    @property
    def earned(self) -> float:
        return sum(check.earned for check in self.checks.values())

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks.values())

    def lost(self) -> dict[str, Check]:
        """The checks that took points."""
        return {name: c for name, c in self.checks.items() if c.earned < c.points}


def autograde(root: Path, assignment: str, submissions: dict[str, str]) -> dict[str, Marks]:
    """Mark submissions with plain nbgrader, in a course folder of their own.

    Args:
        root: the repository.
        assignment: ``NN_name``.
        submissions: notebook text by student.

    Returns:
        Marks by student, in the order given.

    Raises:
        RuntimeError: if nbgrader stops, with its reason.
    """
    source = release.write_source(root, assignment)
    with tempfile.TemporaryDirectory(prefix="lookback-grade-") as folder:
        course = Path(folder)
        (course / "solutions" / assignment).mkdir(parents=True)
        shutil.copy2(source, course / "solutions" / assignment)
        for student, text in submissions.items():
            place = course / "submitted" / student / assignment
            place.mkdir(parents=True)
            (place / source.name).write_text(text, "utf-8")
        run = subprocess.run(
            [sys.executable, "-m", "proctor.plain", str(root), str(course), assignment],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if run.returncode:
            reason = "\n".join(run.stderr.strip().splitlines()[-5:])
            raise RuntimeError(f"nbgrader stopped while grading {assignment}:\n{reason}")
        errors = json.loads(run.stdout.splitlines()[-1])
        marks = {}
        for student in submissions:
            graded = course / "autograded" / student / assignment / source.name
            marks[student] = (
                Marks(_checks(graded)) if graded.is_file() else Marks({}, errors[student])
            )
        return marks


def _checks(graded: Path) -> dict[str, Check]:
    """Points and message of every check of an autograded notebook, as nbgrader counts them."""
    from nbgrader.utils import determine_grade, is_grade

    found = {}
    for cell in nbformat.read(graded, as_version=4).cells:
        if not is_grade(cell):
            continue
        earned, points = determine_grade(cell)
        outputs = [o for o in cell.get("outputs", []) if o.output_type == "error"]
        message = "\n".join(f"{o.ename}: {o.evalue}" for o in outputs)
        if earned is None or earned < points:
            streams = [o.text for o in cell.outputs if o.get("name") == "stderr"]
            message = message or "\n".join(streams) or "the cell was not run"
        found[cell.metadata.nbgrader.grade_id] = Check(earned or 0.0, points, message)
    return found


def _main(root: Path, course: Path, assignment: str) -> None:
    """Release and autograde everything in ``course``; the last line printed is JSON."""
    from nbgrader.apps import NbGraderAPI

    api = NbGraderAPI(config=release.course_config(root, course))
    made = api.generate_assignment(assignment, create=True, force=True)
    if not made["success"]:
        raise SystemExit(made.get("error") or made["log"])
    errors = {}
    for student in sorted(path.name for path in (course / "submitted").iterdir()):
        result = api.autograde(assignment, student, create=True, force=True)
        reason = result.get("error") or result.get("log") or ""
        errors[student] = "" if result["success"] else str(reason)[-2000:]
    print(json.dumps(errors))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""Plain ``nbgrader autograde``, many submissions at a time, with its verdicts as data.

Each batch is a course folder of its own, so that batches run side by side; what a submission
earned is kept under the hash of everything that determines it, so that nothing is run twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
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

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), "utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Marks:
        data = json.loads(path.read_text("utf-8"))
        return cls({name: Check(**c) for name, c in data["checks"].items()}, data["error"])


def autograde(
    root: Path,
    assignment: str,
    submissions: dict[str, str],
    *,
    depends: str,
    jobs: int = 2,
    told: Callable[[str], None] = lambda student: None,
) -> dict[str, Marks]:
    """Mark submissions with plain nbgrader, ``jobs`` batches at a time.

    Args:
        root: the repository.
        assignment: ``NN_name``.
        submissions: notebook text by student.
        depends: hash of what else determines a mark (the library that the checks call).
        jobs: processes.
        told: called with each student as its marks arrive.

    Returns:
        Marks by student, in the order given.
    """
    source = release.write_source(root, assignment)
    store = root / "_build" / "marks"
    key = {
        student: store / f"{_digest(assignment, source.read_text('utf-8'), depends, text)}.json"
        for student, text in submissions.items()
    }
    waiting = [student for student in submissions if not key[student].is_file()]
    batches = [waiting[i : i + 4] for i in range(0, len(waiting), 4)]
    with ThreadPoolExecutor(jobs) as pool:
        for batch in pool.map(
            lambda names: _batch(root, assignment, source, {n: submissions[n] for n in names}),
            batches,
        ):
            for student, marks in batch.items():
                marks.save(key[student])
                told(student)
    return {student: Marks.load(path) for student, path in key.items()}


def _batch(
    root: Path, assignment: str, source: Path, submissions: dict[str, str]
) -> dict[str, Marks]:
    """One nbgrader process over a few submissions."""
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


def _digest(*parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


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

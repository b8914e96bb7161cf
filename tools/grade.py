"""Grade a folder of submissions, laid out as nbgrader wants: STUDENT/NN_name/name.ipynb."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import library
from proctor import plain, release

ROOT = Path(__file__).resolve().parent.parent
Class = dict[str, dict[str, plain.Marks]]  # assignment → student → marks


def find(submitted: Path, known: list[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Submissions by assignment and student, and a sentence about everything that is none.

    Nothing is moved or renamed: what could not be read stays where it lies.
    """
    found: dict[str, dict[str, str]] = {}
    odd: list[str] = []
    students = sorted(submitted.iterdir()) if submitted.is_dir() else []
    for student in students:
        if not student.is_dir():
            odd.append(f"{student.name}: not a folder; expected STUDENT/NN_name/name.ipynb")
            continue
        handed_in = sorted(path for path in student.iterdir() if path.is_dir())
        if not handed_in:
            odd.append(f"{student.name}: the folder is empty")
        for folder in handed_in:
            where = f"{student.name}/{folder.name}"
            if folder.name not in known:
                odd.append(f"{where}: no such exercise; they are {', '.join(known)}")
                continue
            notebook = folder / f"{folder.name.partition('_')[2]}.ipynb"
            if not notebook.is_file():
                others = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
                odd.append(f"{where}: {notebook.name} is missing; the folder holds {others}")
                continue
            try:
                text = notebook.read_text("utf-8")
            except UnicodeDecodeError:
                odd.append(f"{where}/{notebook.name}: not a UTF-8 file")
                continue
            found.setdefault(folder.name, {})[student.name] = text
    return found, odd


def grade(submitted: Path, jobs: int, console: Console) -> tuple[Class, list[str]]:
    """Marks of every submission in a folder, and what could not be taken for one."""
    found, odd = find(submitted, release.assignments(ROOT))
    marks: Class = {}
    total = sum(len(students) for students in found.values())
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("grading", total=total)
        for assignment, notebooks in sorted(found.items()):
            marks[assignment] = plain.autograde(
                ROOT,
                assignment,
                notebooks,
                depends=depends(assignment),
                jobs=jobs,
                told=lambda _: progress.advance(bar),
            )
    return marks, odd


def depends(assignment: str) -> str:
    """Hash of the library that an exercise's checks call."""
    source = release.read_source(release.source_path(ROOT, assignment))
    return library.fingerprint(c.source for c in source.cells if c.cell_type == "code")


def table(assignment: str, marks: dict[str, plain.Marks]) -> Table:
    """One row a student: the score, and what the student is told where points were lost."""
    shown = Table(title=assignment, title_justify="left", show_lines=True)
    shown.add_column("student", no_wrap=True)
    shown.add_column("score", justify="right", no_wrap=True)
    shown.add_column("points", justify="right", no_wrap=True)
    shown.add_column("tasks that lost points, and what the student is told first")
    for student, result in marks.items():
        if result.error:
            shown.add_row(student, "–", "–", f"not graded: {result.error.splitlines()[-1]}")
            continue
        share = f"{result.earned / result.points:.0%}"
        points = f"{result.earned:g} / {result.points:g}"
        shown.add_row(student, share, points, "\n".join(_told(result)) or "nothing lost")
    return shown


def _told(marks: plain.Marks) -> list[str]:
    """One line a task: points lost and the first line of the first message."""
    tasks: dict[str, list[plain.Check]] = {}
    for name, check in marks.lost().items():
        tasks.setdefault(name.partition("__")[0], []).append(check)
    lines = []
    for task, checks in tasks.items():
        if all(check.message.startswith("NotImplementedError") for check in checks):
            lines.append(f"{task}: not answered")
            continue
        lost = sum(check.points - check.earned for check in checks)
        message = checks[0].message.strip().splitlines()[0].removeprefix("AssertionError: ")
        lines.append(f"{task} −{lost:g}: {message}")
    return lines


def write_csv(path: Path, marks: Class) -> None:
    """Every score, one row a student and exercise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["assignment", "student", "score", "max_score", "error"])
        for assignment, students in marks.items():
            for student, result in students.items():
                rows.writerow([assignment, student, result.earned, result.points, result.error])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submitted", type=Path, default=ROOT / "submitted")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    console = Console()
    marks, odd = grade(options.submitted, options.jobs, console)
    for assignment, students in marks.items():
        console.print(table(assignment, students))
    for sentence in odd:
        console.print(f"not graded · {sentence}", highlight=False)
    if not marks:
        where = options.submitted
        console.print(f"No submission in {where}: put them at {where}/STUDENT/NN_name/name.ipynb")
        return 1
    write_csv(ROOT / "_build" / "grades.csv", marks)
    console.print("every score: _build/grades.csv")
    return 1 if odd or any(m.error for s in marks.values() for m in s.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

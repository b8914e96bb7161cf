"""Graders are tested too: every known wrong answer must lose points, every right one keep them.

A row of the matrix is one answer of ``misconceptions.py``, handed in as a student would: the
released notebook with every task answered as the reference does, but one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat

from proctor import doctor, release
from proctor.answers import Misconception, RightAnswer
from proctor.engine import Engine, versions
from proctor.exercise import Exercise
from proctor.limits import Limits
from proctor.plain import Check, Marks
from proctor.records import Record
from proctor.terms import Terms

Answer = Misconception | RightAnswer


def known_answers(root: Path, assignment: str) -> tuple[Answer, ...]:
    """The misconceptions of an exercise, then its alternative right answers.

    Raises:
        ValueError: if a name is given twice to answers of one kind and task.
    """
    path = root / "solutions" / assignment / "misconceptions.py"
    spec = importlib.util.spec_from_file_location(f"misconceptions_of_{assignment}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers = (*module.MISCONCEPTIONS, *module.RIGHT_ANSWERS)
    names = [label(answer) for answer in answers]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path.name} names twice: {', '.join(repeated)}")
    return answers


def label(answer: Answer) -> str:
    """A name for one answer that is unique in its exercise and fit for a folder."""
    kind = "wrong" if isinstance(answer, Misconception) else "right"
    words = "".join(c if c.isalnum() else "-" for c in answer.name.lower())
    return f"{kind}--{answer.task}--{words}"


def reference_answers(root: Path, assignment: str) -> dict[str, str]:
    """The reference's answer cells by task."""
    source = release.read_source(release.source_path(root, assignment))
    cells = (cell for cell in source.cells if cell.metadata.get("nbgrader", {}).get("solution"))
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in cells}


def submission(released: str, answers: dict[str, str]) -> str:
    """The released notebook with these answers in it; other tasks stay as they were released."""
    notebook = nbformat.reads(released, as_version=4)
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in answers:
            cell.source = answers[grade_id]
    return nbformat.writes(notebook)


def submissions(root: Path, assignment: str) -> dict[str, str]:
    """One notebook a known answer, and ``reference`` and ``untouched`` beside them."""
    released = release.released_path(root, assignment).read_text("utf-8")
    reference = reference_answers(root, assignment)
    notebooks = {"reference": submission(released, reference), "untouched": released}
    for answer in known_answers(root, assignment):
        changed = reference | {answer.task: answer.source(reference[answer.task])}
        notebooks[label(answer)] = submission(released, changed)
    return notebooks


def mark(
    root: Path, assignment: str, notebooks: dict[str, str], *, jobs: int = 2, isolation: str = ""
) -> dict[str, Marks]:
    """What the engine gives for notebooks of our own making.

    Args:
        root: the repository.
        assignment: ``NN_name``.
        notebooks: text by name.
        jobs: workers side by side.
        isolation: level; the strongest that this machine offers when left out, and ``limits``
            where it offers no wall, since these notebooks are trusted.

    Returns:
        Marks by name.
    """
    level = isolation or doctor.offered()[0]
    exercise = Exercise.read(release.read_source(release.source_path(root, assignment)), assignment)
    waiting = {name: text.encode() for name, text in notebooks.items()}
    with Engine(level, jobs) as engine:
        terms = Terms(level, b"known answers", Limits(), versions(exercise))
        found = {record.student: record for record in engine.grade(exercise, waiting, terms)}
    return {name: _marks(found[name]) for name in notebooks}


def _marks(record: Record) -> Marks:
    checks = {c.grade_id: Check(c.earned, c.points, c.message) for c in record.checks}
    return Marks(checks, record.reason)


def matrix(root: Path, assignment: str, jobs: int = 2) -> dict[str, dict]:
    """Misconception × check: points lost, the message shown, killed or survived.

    Args:
        root: the repository.
        assignment: ``NN_name``.
        jobs: workers side by side.

    Returns:
        One row an answer, by :func:`label`: its name, task, points lost by check with the message,
        and the verdict. A misconception is ``killed`` where the check it names took points and said
        the words it should, and no other task lost any; a right answer is ``accepted`` where it
        lost nothing.
    """
    marks = mark(root, assignment, submissions(root, assignment), jobs=jobs)
    rows = {}
    for answer in known_answers(root, assignment):
        result = marks[label(answer)]
        lost = result.lost()
        rows[label(answer)] = {
            "name": answer.name,
            "task": answer.task,
            "lost": {
                check: {"points": c.points - c.earned, "message": c.message}
                for check, c in lost.items()
            },
            "verdict": _verdict(answer, result),
        }
    return rows


def _verdict(answer: Answer, marks: Marks) -> str:
    lost = marks.lost()
    if marks.error:
        return f"not graded: {marks.error}"
    if isinstance(answer, RightAnswer):
        return "accepted" if not lost else f"refused by {', '.join(lost)}"
    elsewhere = [check for check in lost if check.partition("__")[0] != answer.task]
    if elsewhere:
        return f"cost points in another task: {', '.join(elsewhere)}"
    if answer.fails not in lost:
        return f"survived {answer.fails}"
    if answer.told.lower() not in lost[answer.fails].message.lower():
        return f"not told {answer.told!r} by {answer.fails}"
    return "killed"

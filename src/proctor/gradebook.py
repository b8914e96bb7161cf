"""The one writer into nbgrader's gradebook: records in, scores that formgrader and export read.

nbgrader's own interface does the writing, so any database that it takes will do. Writing the same
records again changes nothing. A gradebook that cannot be written to is named before grading starts;
the records are kept all the same, and are written when it can.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proctor.database import GradebookError, check, create, load, named_errors
from proctor.exercise import Exercise, Part, checksum
from proctor.records import Record

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Written:
    """What a call of :func:`write` did.

    Args:
        students: whose scores are in the gradebook now.
        changed: how many entries were made, changed or removed for that.
        notes: what a person should know: hand-given scores that stand, dates that are none.
    """

    students: int
    changed: int
    notes: tuple[str, ...] = ()


def write(
    url: str,
    course: str,
    exercise: Exercise,
    records: Iterable[Record],
    timestamps: Mapping[str, str] | None = None,
) -> Written:
    """Put the scores of records into the gradebook.

    The assignment is made from the exercise where it is missing; where the exercise has changed
    since, its cells are brought up to date. A score that a person gave stands, as in nbgrader.

    Args:
        url: of the database.
        course: the course that it belongs to.
        exercise: that all records are of.
        records: one a student.
        timestamps: by student, when it was handed in, as nbgrader writes it.

    Returns:
        How much was changed.

    Raises:
        ValueError: if a record is of another exercise or has other checks.
        GradebookError: if the gradebook cannot be written to.
    """
    records = list(records)
    wanted = {part.grade_id: part.points for part in exercise.checks}
    for record in records:
        found = {check.grade_id: check.points for check in record.checks}
        if record.assignment != exercise.assignment or found != wanted:
            raise ValueError(
                f"the record of {record.student} for {record.assignment} has not the "
                f"{len(wanted)} checks of {exercise.assignment} as it is now: grade again"
            )
    check(url, course)
    load()
    with named_errors(url), warnings.catch_warnings():
        from nbgrader.api import Gradebook
        from sqlalchemy.exc import SAWarning

        # nbgrader makes a submission's entries in an order that SQLAlchemy remarks on
        warnings.simplefilter("ignore", SAWarning)
        create(url)
        with Gradebook(url, course) as gradebook, gradebook.engine.begin() as connection:
            # nbgrader commits after every entry, each time waiting for the disk; here all of them
            # are one transaction, written whole or not at all
            gradebook.db.remove()
            gradebook.db.configure(
                bind=connection, join_transaction_mode="rollback_only", expire_on_commit=False
            )
            writer = _Writer(gradebook, exercise)
            writer.assignment()
            with gradebook.db.no_autoflush:  # the records reach the database together
                for record in records:
                    writer.record(record, (timestamps or {}).get(record.student, ""))
            gradebook.db.flush()
            return Written(len(records), writer.changed, tuple(writer.notes))


def student_id(name: str) -> str:
    """A student's name as the gradebook and its exports can hold it: one line, no broken bytes."""
    plain = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)


class _Writer:
    """Brings a gradebook up to date and counts what that changed."""

    def __init__(self, gradebook: Any, exercise: Exercise) -> None:
        self.gradebook, self.exercise = gradebook, exercise
        self.name, self.notebook = exercise.assignment, exercise.assignment.partition("_")[2]
        self.cells: dict[tuple[str, str], str] = {}  # by kind and name, its id
        self.entry: Any = None  # the assignment's
        self.students: dict[str, Any] = {}
        self.submissions: dict[str, Any] = {}  # by student
        self.changed = 0
        self.notes: list[str] = []

    def assignment(self) -> None:
        """The assignment, its notebook and its cells as the exercise has them."""
        from nbgrader.api import MissingEntry

        try:
            assignment = self.gradebook.find_assignment(self.name)
        except MissingEntry:
            assignment = self.gradebook.add_assignment(self.name)
            self.changed += 1
        if self.notebook not in [notebook.name for notebook in assignment.notebooks]:
            kernel = json.dumps(KERNEL)
            self.gradebook.add_notebook(self.notebook, self.name, kernelspec=kernel)
            self.changed += 1
        notebook = self.gradebook.find_notebook(self.notebook, self.name)
        self._remove_cells(notebook)
        for part in self.exercise.parts:
            self._cell(part, notebook)
        self.gradebook.db.flush()
        self.gradebook.db.expire_all()  # collections that cells were added to or removed from
        cells = [*notebook.grade_cells, *notebook.solution_cells]
        self.cells = {(type(cell).__name__, cell.name): cell.id for cell in cells}
        self.students = {student.id: student for student in self.gradebook.students}
        self.entry = assignment
        self.submissions = {each.student_id: each for each in assignment.submissions}

    def _remove_cells(self, notebook: Any) -> None:
        """Remove cells that the exercise has no longer, with their scores."""
        kinds = {part.grade_id: part.kind for part in self.exercise.parts}
        old = [c for c in notebook.grade_cells if kinds.get(c.name) != "check"]
        old += [c for c in notebook.solution_cells if kinds.get(c.name) != "answer"]
        for cell in old:
            grades = list(cell.grades or [])
            by_hand = [g for g in grades if g.manual_score is not None or g.extra_credit]
            if by_hand:
                raise GradebookError(
                    f"{self.name} has no check {cell.name} any more, but {len(by_hand)} scores "
                    "for it were given by hand: remove these in formgrader first"
                )
            entries = [*grades, *(cell.comments or []), cell]
            for entry in entries:
                self.gradebook.db.delete(entry)
            self.changed += len(entries)
        for cell in [c for c in notebook.source_cells if c.name not in kinds]:
            self.gradebook.db.delete(cell)
            self.changed += 1

    def _cell(self, part: Part, notebook: Any) -> None:
        from nbgrader.api import GradeCell, SolutionCell, SourceCell

        marks = {"grade": part.kind == "check", "solution": part.kind == "answer"}
        marks |= {"locked": part.kind != "answer", "grade_id": part.grade_id, "points": part.points}
        source = part.released if part.kind == "answer" else part.source
        values = {
            "cell_type": "code",
            "locked": part.kind != "answer",
            "source": source,
            "checksum": checksum(source, marks),
        }
        self._update(SourceCell, notebook.source_cells, values, part, notebook)
        if part.kind == "check":
            values = {"max_score": part.points, "cell_type": "code"}
            self._update(GradeCell, notebook.grade_cells, values, part, notebook)
        elif part.kind == "answer":
            self._update(SolutionCell, notebook.solution_cells, {}, part, notebook)

    def _update(
        self, kind: type, known: list[Any], values: dict[str, Any], part: Part, notebook: Any
    ) -> None:
        cell = next((cell for cell in known if cell.name == part.grade_id), None)
        if cell is None:
            self._add(kind(name=part.grade_id, notebook=notebook, **values))
        else:
            self._set(cell, **values)

    def record(self, record: Record, timestamp: str) -> None:
        """The scores of one student."""
        from nbgrader.api import Student

        name = student_id(record.student)
        if name not in self.students:
            self.students[name] = self._add(Student(id=name))
        if name not in self.submissions:
            self.submissions[name] = self._submission(self.students[name])
        submission = self.submissions[name]
        self._timestamp(submission, name, timestamp)
        notebook = next(n for n in submission.notebooks if n.notebook.name == self.notebook)
        self._scores(record, notebook, name)
        self._comments(record, notebook)

    def _submission(self, student: Any) -> Any:
        """An empty submission, as nbgrader's ``add_submission`` makes one."""
        from nbgrader.api import Comment, Grade, SubmittedAssignment, SubmittedNotebook

        submission = SubmittedAssignment(assignment=self.entry, student=student)
        for notebook in self.entry.notebooks:
            submitted = SubmittedNotebook(notebook=notebook, assignment=submission)
            for cell in [*notebook.grade_cells, *notebook.task_cells]:
                Grade(cell_id=cell.id, notebook=submitted)
            for cell in [*notebook.solution_cells, *notebook.task_cells]:
                Comment(cell_id=cell.id, notebook=submitted)
        return self._add(submission)

    def _timestamp(self, submission: Any, student: str, timestamp: str) -> None:
        if not timestamp:
            return
        from nbgrader.utils import parse_utc

        try:
            self._set(submission, timestamp=parse_utc(timestamp))
        except (ValueError, OverflowError):
            self.notes.append(f"{student}: {timestamp[:40]!r} is no date; none was entered")

    def _scores(self, record: Record, notebook: Any, student: str) -> None:
        from nbgrader.api import Grade

        grades = {grade.cell_id: grade for grade in notebook.grades}
        stand = 0
        for result in record.checks:
            cell_id = self.cells["GradeCell", result.grade_id]
            grade = grades.get(cell_id)
            if grade is None:  # the check is newer than the submission
                grade = self._add(Grade(cell_id=cell_id, notebook=notebook))
            by_hand = grade.manual_score is not None
            stand += by_hand
            # a score given by hand is looked at again where the automatic one has moved, no more
            if grade.auto_score != result.earned:
                self._set(grade, auto_score=result.earned, needs_manual_grade=by_hand)
            elif grade.needs_manual_grade and not by_hand:
                self._set(grade, needs_manual_grade=False)
        if stand:
            self.notes.append(f"{student}: {stand} scores given by hand stand")

    def _comments(self, record: Record, notebook: Any) -> None:
        from nbgrader.api import Comment

        sources = {cell.grade_id: cell.source.strip() for cell in record.cells}
        comments = {comment.cell_id: comment for comment in notebook.comments}
        for part in self.exercise.answers:
            cell_id = self.cells["SolutionCell", part.grade_id]
            comment = comments.get(cell_id)
            if comment is None:
                comment = self._add(Comment(cell_id=cell_id, notebook=notebook))
            untouched = sources.get(part.grade_id, "") in ("", part.released.strip())
            self._set(comment, auto_comment="No response." if untouched else None)

    def _add(self, entry: Any) -> Any:
        """Enter something new, with all that belongs to it."""
        self.gradebook.db.add(entry)
        self.changed += 1
        return entry

    def _set(self, entry: Any, **values: Any) -> None:
        """Change what differs; one entry counts once."""
        differ = {name: v for name, v in values.items() if getattr(entry, name) != v}
        for name, value in differ.items():
            setattr(entry, name, value)
        self.changed += bool(differ)

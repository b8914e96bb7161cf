"""Grading a folder of submissions from beginning to end: find, resume, mark, keep, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from proctor import doctor, records, sources, store, submitted
from proctor.engine import Engine, versions
from proctor.exercise import Exercise
from proctor.intake import Submission, take_in
from proctor.limits import Limits
from proctor.records import Record
from proctor.terms import Terms, unrun

if TYPE_CHECKING:
    from nbformat import NotebookNode

STATE = ".proctor"


@dataclass(frozen=True)
class Course:
    """Where things are.

    Args:
        root: holds ``solutions/``, and below it the course keeps its state.
        submitted: holds ``STUDENT/NN_name/name.ipynb``.
    """

    root: Path
    submitted: Path

    @property
    def state(self) -> Path:
        """The secret and the records; not for students' eyes."""
        return self.root / STATE

    @property
    def records(self) -> store.Records:
        """The grade records."""
        return store.Records(self.state / "records")

    def assignments(self) -> list[str]:
        """Names of all exercises of the course."""
        return sources.assignments(self.root)

    def source(self, assignment: str) -> NotebookNode:
        """The instructor's notebook of an exercise.

        Raises:
            ValueError: if there is none of that name, naming those there are.
        """
        from proctor import release

        return release.read_source(release.source_path(self.root, assignment))

    def exercise(self, assignment: str) -> Exercise:
        """The exercise as the instructor wrote it.

        Raises:
            ValueError: if there is none of that name, naming those there are.
        """
        made = sources.made(self.root, assignment)
        return Exercise.read(made or self.source(assignment), assignment)

    def report_path(self, assignment: str) -> Path:
        """Where the class report lies."""
        return self.root / "_build" / "reports" / f"{assignment}.html"


@dataclass
class Outcome:
    """What a run over a folder found.

    Args:
        exercise: that was graded.
        level: of isolation.
        records: by student.
        odd: sentences about what was no submission.
        fresh: students whose record was made in this run.
        timestamps: by student, when it was handed in.
        unwritten: sentences about pages that could not be made; the grades are kept all the same.
        spent: CPU seconds of the workers, by what they went into.
    """

    exercise: Exercise
    level: str
    records: dict[str, Record] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    timestamps: dict[str, str] = field(default_factory=dict)
    unwritten: list[str] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)


def grade(
    course: Course,
    assignment: str,
    *,
    jobs: int = 1,
    isolation: str | None = None,
    force: bool = False,
    limits: Limits | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Mark every submission of an assignment; records are kept as they are made, none counts yet.

    Args:
        course: where things are.
        assignment: ``NN_name``.
        jobs: workers side by side.
        isolation: level; the strongest that this machine offers when left out.
        force: mark again what has a record.
        limits: for each candidate.
        told: called with how many are done, of how many.

    Raises:
        ValueError: if there is no such exercise, or no such level here.
        EngineError: if grading cannot go on; what is done is kept.
        StoreError: if records cannot be written.
    """
    level = doctor.choose(isolation)
    secret = store.course_secret(course.state)
    course.records.sweep()
    with Engine(level, jobs) as engine:
        exercise = course.exercise(assignment)
        terms = Terms(level, secret, limits or Limits(), versions(exercise))
        outcome = Outcome(exercise, level)
        waiting: dict[str, bytes] = {}
        notes: dict[str, tuple[records.Note, ...]] = {}
        found, outcome.odd = submitted.walk(course.submitted, course.assignments())
        found = [each for each in found if each.assignment == assignment]
        for each in found:
            notes[each.student] = each.notes
            outcome.timestamps[each.student] = each.timestamp()
            data, reason = each.read()
            taken = Submission(reason=reason) if reason else take_in(data, exercise)
            known = None if force else _known(course, exercise, each.student, terms, taken)
            if taken.reason:
                known = unrun(exercise, each.student, terms, taken)
            if known is None:
                waiting[each.student] = data
            else:
                intake = (*each.notes, *taken.notes)
                outcome.records[each.student] = records.renew(known, taken.cells, intake)
        total = len(found)
        told(len(outcome.records), total)
        for record in engine.grade(exercise, waiting, terms):
            whole = replace(record, intake=(*notes[record.student], *record.intake))
            course.records.put(whole)
            outcome.records[whole.student] = whole
            outcome.fresh.append(whole.student)
            told(len(outcome.records), total)
    outcome.spent = dict(engine.spent)
    outcome.records = dict(sorted(outcome.records.items()))
    return outcome


def publish(course: Course, outcome: Outcome, pages: bool = True) -> None:
    """Let the records of a run count; write feedback, marked notebooks and the class report.

    Args:
        course: where things are.
        outcome: of :func:`grade`.
        pages: whether to write anything beside the records.

    Raises:
        StoreError: if they cannot be written.
    """
    course.records.publish(outcome.records.values())
    if not pages:
        return
    from proctor import autograded, feedback, report

    exercise = outcome.exercise
    source = course.source(exercise.assignment)
    for student, record in outcome.records.items():
        handed_in = outcome.timestamps.get(student, "")
        with _told(outcome, f"the pages of {student}"):
            feedback.write(course.root / "feedback", record, exercise)
            autograded.write(course.root / "autograded", record, source, handed_in)
    path = course.report_path(exercise.assignment)
    with _told(outcome, "the class report"):
        report.write(path, outcome.records.values(), exercise, odd=outcome.odd)


@contextmanager
def _told(outcome: Outcome, what: str) -> Iterator[None]:
    """Keep what one page meets from the others, and say so; a disk that is full concerns all."""
    try:
        yield
    except store.StoreError:
        raise
    except Exception as error:
        outcome.unwritten.append(f"{what}: {type(error).__name__}: {error}")


def _known(
    course: Course, exercise: Exercise, student: str, terms: Terms, taken: Submission
) -> Record | None:
    return course.records.get(exercise.assignment, terms.key(exercise, student, taken))


def moved(course: Course, outcome: Outcome) -> list[store.Move]:
    """Whose grade a run would move, were it published."""
    current = course.records.current(outcome.exercise.assignment)
    return store.compare(_of(current, outcome.records), outcome.records)


def _of(current: dict[str, Record], students: Iterable[str]) -> dict[str, Record]:
    wanted = set(students)
    return {name: record for name, record in current.items() if name in wanted}


def mark(
    root: Path,
    assignment: str,
    notebooks: dict[str, str],
    *,
    jobs: int = 1,
    isolation: str | None = None,
    told: Callable[[str], None] = lambda student: None,
) -> dict[str, Record]:
    """Records of notebooks that lie in no folder, as the kill matrix makes them.

    Args:
        root: holds ``solutions/``; records are kept in its ``_build/proctor``, none counts.
        assignment: ``NN_name``.
        notebooks: text by student.
        jobs: workers side by side.
        isolation: level; the strongest that this machine offers when left out.
        told: called with each student as the record is there.

    Raises:
        ValueError, EngineError, StoreError: as :func:`grade`.
    """
    level = doctor.choose(isolation)
    kept = store.Records(root / "_build" / "proctor" / "records")
    with Engine(level, jobs) as engine:
        exercise = Course(root, root).exercise(assignment)
        secret = store.course_secret(root / "_build" / "proctor")
        terms = Terms(level, secret, Limits(), versions(exercise))
        found: dict[str, Record] = {}
        waiting: dict[str, bytes] = {}
        for student, text in notebooks.items():
            data = text.encode("utf-8", "replace")
            taken = take_in(data, exercise)
            known = kept.get(assignment, terms.key(exercise, student, taken))
            if known is None:
                waiting[student] = data
            else:
                found[student] = known
                told(student)
        for record in engine.grade(exercise, waiting, terms):
            kept.put(record)
            found[record.student] = record
            told(record.student)
    return {student: found[student] for student in notebooks}

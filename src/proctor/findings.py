"""What the records of a class say together: which checks, which mistakes, which repairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proctor.records import Note, Record


@dataclass(frozen=True)
class Rate:
    """How a check went in the class.

    Args:
        grade_id: of the check.
        points: that it is worth.
        passed: students who have all its points.
        of: students whose submission could be run.
        flaky: whether it gave two outcomes for the same code under the same terms.
    """

    grade_id: str
    points: float
    passed: int
    of: int
    flaky: bool = False

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where there is nobody."""
        return self.passed / self.of if self.of else 1.0


@dataclass(frozen=True)
class Mistake:
    """A diagnosis that several students were given.

    Args:
        task: that it was given in.
        diagnosis: the first line of the message.
        students: who, in alphabetical order.
        checks: the checks that gave it.
        lost: points that it cost all of them together.
    """

    task: str
    diagnosis: str
    students: tuple[str, ...]
    checks: tuple[str, ...]
    lost: float


@dataclass(frozen=True)
class Noted:
    """A kind of note, and to whom it applies.

    Args:
        kind: the same in every submission.
        notes: by student, what was noted.
    """

    kind: str
    notes: tuple[tuple[str, str], ...]

    @property
    def students(self) -> tuple[str, ...]:
        """Everyone whose submission has such a note, once."""
        return tuple(dict.fromkeys(student for student, _ in self.notes))


@dataclass(frozen=True)
class Scores:
    """The scores of a class, as shares of the points from 0 to 1.

    Args:
        shares: of those whose submission could be run, in rising order.
        bins: how many of them lie in each tenth; the last one includes 1.
    """

    shares: tuple[float, ...]
    bins: tuple[int, ...]

    @property
    def mean(self) -> float:
        """0 where there is nobody."""
        return statistics.fmean(self.shares) if self.shares else 0.0

    @property
    def median(self) -> float:
        """0 where there is nobody."""
        return statistics.median(self.shares) if self.shares else 0.0


def run(records: Iterable[Record]) -> list[Record]:
    """Those that could be run."""
    return [record for record in records if not record.reason]


def scores(records: Iterable[Record]) -> Scores:
    """The distribution of the scores."""
    shares = sorted(r.earned / r.points if r.points else 0.0 for r in run(records))
    bins = [0] * 10
    for share in shares:
        bins[min(int(share * 10 + 1e-9), 9)] += 1
    return Scores(tuple(shares), tuple(bins))


def rates(records: Iterable[Record], again: Iterable[Record] = ()) -> list[Rate]:
    """How each check went, in the order of the exercise.

    Args:
        records: one a student.
        again: records of further runs; what differs under the same key is flaky.
    """
    graded = run(records)
    unsteady = flaky([*graded, *again])
    found: dict[str, list[tuple[float, bool]]] = {}
    for record in graded:
        for check in record.checks:
            full = check.outcome == "passed" and check.earned == check.points
            found.setdefault(check.grade_id, []).append((check.points, full))
    return [
        Rate(name, results[0][0], sum(full for _, full in results), len(results), name in unsteady)
        for name, results in found.items()
    ]


def flaky(records: Iterable[Record]) -> set[str]:
    """Checks that gave two outcomes for the same code under the same terms.

    The seed of a submission is made of the course's secret and the student's cells, so records with
    one seed, one set of versions and one isolation level ran the same code on the same numbers.
    """
    seen: dict[tuple, str] = {}
    found = set()
    for record in records:
        terms = record.seed, record.isolation, tuple(sorted(record.versions.items()))
        for check in record.checks:
            said = f"{check.outcome} {check.earned:g}"
            if record.seed and seen.setdefault((*terms, check.grade_id), said) != said:
                found.add(check.grade_id)
    return found


def mistakes(records: Iterable[Record]) -> list[Mistake]:
    """Diagnoses by how many students were given them, the most frequent first.

    Equal first lines within one task are one mistake. What was left unanswered, or was not run, is
    no mistake of this kind.
    """
    found: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
    for record in run(records):
        for check in record.checks:
            if check.outcome not in ("passed", "missing", "skipped") and check.diagnosis:
                lost = check.points - check.earned
                entry = (record.student, check.grade_id, lost)
                found.setdefault((check.task, check.diagnosis), []).append(entry)
    groups = [
        Mistake(
            task,
            diagnosis,
            tuple(sorted({student for student, _, _ in entries})),
            tuple(dict.fromkeys(name for _, name, _ in entries)),
            sum(lost for _, _, lost in entries),
        )
        for (task, diagnosis), entries in found.items()
    ]
    return sorted(groups, key=lambda m: (-len(m.students), -m.lost, m.task, m.diagnosis))


def unanswered(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """By task, in the order of the exercise, who wrote nothing in it."""
    found: dict[str, list[str]] = {}
    for record in run(records):
        for task, checks in record.tasks().items():
            if all(check.outcome == "missing" for check in checks):
                found.setdefault(task, []).append(record.student)
    order = {task: None for record in run(records) for task in record.tasks()}
    return {task: tuple(found[task]) for task in order if task in found}


def repairs(records: Iterable[Record]) -> list[Noted]:
    """What was repaired in the files, the most frequent first."""
    return _noted((record.student, note) for record in records for note in record.intake)


def integrity(records: Iterable[Record]) -> list[Noted]:
    """What showed while grading, the most frequent first."""
    return _noted((record.student, note) for record in records for note in record.integrity)


def _noted(notes: Iterable[tuple[str, Note]]) -> list[Noted]:
    found: dict[str, list[tuple[str, str]]] = {}
    for student, note in notes:
        found.setdefault(note.kind, []).append((student, note.text))
    groups = [Noted(kind, tuple(entries)) for kind, entries in found.items()]
    return sorted(groups, key=lambda group: (-len(group.students), group.kind))

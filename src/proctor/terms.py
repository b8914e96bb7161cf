"""Under which terms submissions are marked, and the record of one that cannot be run.

The driver needs both to find the records that it has already; it loads no torch for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from proctor import bans, keys, seeds
from proctor.exercise import Exercise
from proctor.intake import Submission
from proctor.limits import Limits
from proctor.records import Cell, CheckResult, Record


@dataclass(frozen=True)
class Terms:
    """Under which terms submissions of one exercise are marked.

    Args:
        level: of isolation.
        secret: of the course; no student knows it.
        limits: for each candidate.
        versions: of what else decides a mark (engine, library, torch), by name.
    """

    level: str
    secret: bytes
    limits: Limits = field(default_factory=Limits)
    versions: dict[str, str] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """The terms as plain data, the secret in hexadecimal."""
        return asdict(self) | {"secret": self.secret.hex()}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Terms:
        """The terms that :meth:`as_data` wrote."""
        changed = {"secret": bytes.fromhex(data["secret"]), "limits": Limits(**data["limits"])}
        return cls(**{**data, **changed})

    def seed(self, exercise: Exercise, cells: Iterable[Cell]) -> bytes:
        """The key that a submission's checks mix into their seeds."""
        return seeds.key(self.secret, exercise.assignment, keys.cells_text(cells))

    def key(self, exercise: Exercise, student: str, taken: Submission) -> str:
        """The name of the record that marking this submission gives."""
        return keys.record_key(
            assignment=exercise.assignment,
            student=student,
            cells=taken.cells,
            steps=taken.steps,
            checks=[(p.grade_id, p.points, p.source) for p in exercise.parts if p.kind != "answer"],
            versions=self.versions,
            seed=self.seed(exercise, taken.cells).hex(),
            isolation=self.level,
            limits=self.limits.as_dict(),
        )


def banned_in(exercise: Exercise) -> tuple[str, ...]:
    """What the locked cells of an exercise say that students may not use."""
    names = (name for part in exercise.locked for name in bans.declared(part.source))
    return tuple(dict.fromkeys(names))


def unrun(
    exercise: Exercise, student: str, terms: Terms, taken: Submission, outcome: str = "skipped"
) -> Record:
    """The record of a submission of which nothing can be run."""
    checks = tuple(
        CheckResult(part.grade_id, 0.0, part.points, outcome, taken.reason)
        for part in exercise.checks
    )
    return Record(
        assignment=exercise.assignment,
        student=student,
        key=terms.key(exercise, student, taken),
        seed=terms.seed(exercise, taken.cells).hex(),
        isolation=terms.level,
        versions=terms.versions,
        checks=checks,
        cells=taken.cells,
        intake=taken.notes,
        reason=taken.reason,
    )

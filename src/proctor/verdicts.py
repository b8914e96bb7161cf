"""What became of one check, and what the student is told."""

from __future__ import annotations

from dataclasses import dataclass

from proctor.link import text_of


@dataclass(frozen=True)
class Verdict:
    """What became of one check.

    Args:
        outcome: one of :data:`proctor.records.OUTCOMES`.
        message: what the student reads where it did not pass.
        where: the lines of the student's code that an error came from.
    """

    outcome: str
    message: str = ""
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether it earned its points."""
        return self.outcome == "passed"


def verdict_on(error: Exception) -> Verdict:
    """The verdict on a check that an error ended: its own, or one from the student's code."""
    where = str(getattr(error, "where", "") or getattr(error.__cause__, "where", ""))
    if isinstance(error, NotImplementedError) and hasattr(error, "where"):
        return Verdict("missing", "nothing is written here yet")
    name, message = type(error).__name__, text_of(error)
    if isinstance(error, AssertionError) and not hasattr(error, "where"):
        return Verdict("failed", message or "the result is not what it should be", where)
    return Verdict("error", f"{name}: {message}" if message else name, where)

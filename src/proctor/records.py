"""A grade record: what one submission earned, as data and as bytes.

The bytes are ASCII JSON with a hash of their own content, so that damage is recognised: a record
that does not read back exactly is graded again. :mod:`proctor.keys` names a record,
:mod:`proctor.store` keeps the files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from proctor.keys import canonical

FORMAT = 1
OUTCOMES = {
    "passed": "passed",
    "failed": "the result was not the one that was asked for",
    "error": "the student's code raised an error",
    "missing": "nothing was written there yet",
    "crashed": "the process that ran the student's code ended",
    "timed out": "the student's code used up its time",
    "refused": "what came back was not what honest code sends",
    "skipped": "it was not run",
}
ISOLATION = ("jail", "namespaces", "landlock", "limits", "none")
OUTPUTS = ("text", "error", "png", "jpeg")


class RecordError(ValueError):
    """Bytes that are no sound record."""


@dataclass(frozen=True)
class CheckResult:
    """What one check gave.

    Args:
        grade_id: of the check; what stands before ``__`` is its task.
        earned: points, from 0 to ``points``.
        points: points there are.
        outcome: one of :data:`OUTCOMES`.
        message: what the student is told; the first line is the diagnosis.
        counterexample: the smallest input found that shows it, or the lines of the student's code
            that an error came from.
        cpu: CPU seconds of the student's code.
    """

    grade_id: str
    earned: float
    points: float
    outcome: str = "passed"
    message: str = ""
    counterexample: str = ""
    cpu: float = 0.0

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is none of {', '.join(OUTCOMES)}")
        if not (math.isfinite(self.points) and 0 <= self.earned <= self.points):
            raise ValueError(f"{self.grade_id}: {self.earned} of {self.points} points")
        if not (math.isfinite(self.cpu) and self.cpu >= 0):
            raise ValueError(f"{self.grade_id}: {self.cpu} s of CPU time")
        for name in ("earned", "points", "cpu"):  # 1 and 1.0 are written as the same bytes
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def task(self) -> str:
        """The task that the check belongs to."""
        return self.grade_id.partition("__")[0]

    @property
    def diagnosis(self) -> str:
        """The first line of the message: equal for everybody who made the same mistake."""
        return next((line.strip() for line in self.message.splitlines() if line.strip()), "")


@dataclass(frozen=True)
class Note:
    """Something about a submission that a person should know.

    Args:
        kind: a few words that are the same in every submission, so that they can be counted: "a
            test cell was put back".
        text: the sentence about this one.
        grade_id: the cell that it is about, where it is about one.
    """

    kind: str
    text: str
    grade_id: str = ""


@dataclass(frozen=True)
class Output:
    """A saved output of a cell.

    Args:
        kind: ``text``, ``error``, ``png`` or ``jpeg``.
        data: characters, or an image in base64.
    """

    kind: str
    data: str

    def __post_init__(self) -> None:
        if self.kind not in OUTPUTS:
            raise ValueError(f"an output of kind {self.kind!r}; known are {', '.join(OUTPUTS)}")

    def image(self) -> bytes:
        """The bytes of an image; empty where the data is not base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            return b""


@dataclass(frozen=True)
class Cell:
    """A code cell that the student wrote, as it was handed in.

    Args:
        grade_id: of the answer that it is; empty for a cell that the student added.
        source: its code.
        outputs: what was saved with it.
        printed: what it printed while it was graded.
        error: what stopped it while it was graded.
    """

    grade_id: str
    source: str
    outputs: tuple[Output, ...] = ()
    printed: str = ""
    error: str = ""


@dataclass(frozen=True)
class Record:
    """What one submission earned, with everything that feedback and reports show of it.

    Args:
        assignment: ``NN_name``.
        student: whose submission it is.
        key: hash of what determines the result (:func:`proctor.keys.record_key`).
        seed: in hexadecimal; never shown to the student.
        isolation: one of :data:`ISOLATION`: the walls that the student's code ran behind.
        versions: of the engine, the library and what else the checks call.
        checks: every check of the exercise in its order, also where nothing could be run.
        cells: the student's code cells in the order in which they ran.
        intake: what was repaired in the file, edited tests included.
        integrity: what showed while grading and a person should look at: banned names, refused
            answers.
        reason: why nothing could be run; empty where something was.
    """

    assignment: str
    student: str
    key: str
    seed: str
    isolation: str
    versions: dict[str, str]
    checks: tuple[CheckResult, ...]
    cells: tuple[Cell, ...] = ()
    intake: tuple[Note, ...] = ()
    integrity: tuple[Note, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.isolation not in ISOLATION:
            raise ValueError(f"isolation {self.isolation!r} is none of {', '.join(ISOLATION)}")
        names = [check.grade_id for check in self.checks]
        if len(set(names)) < len(names):
            raise ValueError(f"a check is there twice among {', '.join(names)}")

    @property
    def earned(self) -> float:
        """Points earned in all checks."""
        return math.fsum(check.earned for check in self.checks)

    @property
    def points(self) -> float:
        """Points there are in all checks."""
        return math.fsum(check.points for check in self.checks)

    def tasks(self) -> dict[str, tuple[CheckResult, ...]]:
        """The checks of each task, in the order of the exercise."""
        found: dict[str, tuple[CheckResult, ...]] = {}
        for check in self.checks:
            found[check.task] = (*found.get(check.task, ()), check)
        return found

    def to_bytes(self) -> bytes:
        """The record as JSON in ASCII, with a hash of itself; equal records give equal bytes."""
        body = asdict(self)
        data = {"format": FORMAT, "sha256": _digest(body), "record": body}
        return json.dumps(data, indent=1, sort_keys=True, allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """The record that :meth:`to_bytes` wrote.

        Raises:
            RecordError: if the bytes are anything else, in whatever way.
        """
        try:
            whole = json.loads(data)
            if type(whole) is not dict or whole.get("format") != FORMAT:
                raise RecordError(f"not a grade record of format {FORMAT}")
            body = whole["record"]
            if whole["sha256"] != _digest(body):
                raise RecordError("the record does not match its own hash")
            return _record(body)
        except RecordError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            raise RecordError(f"not a grade record ({reason})") from None


def renew(record: Record, cells: Iterable[Cell], intake: Iterable[Note]) -> Record:
    """A record found by its key, with what a new copy of the same cells shows beside them.

    Saved outputs and repairs do not determine a grade, so they are not in the key; they belong to
    the file that was handed in last. What each cell printed while it was graded is kept.
    """
    ran = {(cell.grade_id, cell.source): cell for cell in record.cells}
    shown = []
    for cell in cells:
        old = ran.get((cell.grade_id, cell.source), cell)
        shown.append(replace(cell, printed=old.printed, error=old.error))
    return replace(record, cells=tuple(shown), intake=tuple(intake))


def _record(body: Any) -> Record:
    """A record from plain data, every type checked."""
    body = dict(_fields(body, Record))
    body["checks"] = tuple(CheckResult(**_fields(x, CheckResult)) for x in body["checks"])
    body["intake"] = tuple(Note(**_fields(x, Note)) for x in body["intake"])
    body["integrity"] = tuple(Note(**_fields(x, Note)) for x in body["integrity"])
    cells = []
    for cell in body["cells"]:
        cell = dict(_fields(cell, Cell))
        cell["outputs"] = tuple(Output(**_fields(x, Output)) for x in cell["outputs"])
        cells.append(Cell(**cell))
    body["cells"] = tuple(cells)
    if any(type(v) is not str for v in body["versions"].values()):
        raise RecordError("a version that is no text")
    return Record(**body)


def _fields(data: Any, of: type) -> dict[str, Any]:
    """The data of one object, if it has all the fields of its class with the right types."""
    wanted = {f.name: _KINDS[f.type.partition("[")[0]] for f in fields(of)}
    if type(data) is not dict or data.keys() != wanted.keys():
        raise RecordError(f"a {of.__name__} with the wrong fields")
    for name, kinds in wanted.items():
        if type(data[name]) not in kinds:
            raise RecordError(f"{of.__name__}.{name} is of type {type(data[name]).__name__}")
    return data


# by annotation, the types that JSON gives for it
_KINDS = {"str": (str,), "float": (float, int), "tuple": (list,), "dict": (dict,)}


def _digest(body: Any) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()

"""An exercise as the instructor wrote it: what a submission is matched with and marked by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

STUB = 'raise NotImplementedError("write your answer here")'  # as in nbgrader_config.py
_DEFINED = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)|^(\w+)[ \t]*(?::[^=\n]+)?=(?!=)", re.M)


@dataclass(frozen=True)
class Part:
    """A cell of the exercise that has a name.

    Args:
        kind: ``locked`` (runs before what follows it), ``answer`` or ``check``.
        grade_id: its name.
        source: the instructor's text, solution and hidden tests in it.
        released: what students were given.
        points: of a check.
    """

    kind: str
    grade_id: str
    source: str
    released: str
    points: float = 0.0

    @property
    def task(self) -> str:
        """The task that the cell belongs to."""
        return self.grade_id.partition("__")[0]

    @property
    def hidden(self) -> bool:
        """Whether some of it was not given to students."""
        return self.kind == "check" and self.source.strip() != self.released.strip()

    @cached_property
    def lines(self) -> frozenset[str]:
        """The lines that students were given, for likeness."""
        return lines_of(self.released)

    @cached_property
    def names(self) -> frozenset[str]:
        """The functions and classes that an answer is to define."""
        return defined_in(self.source, only_code=True) or defined_in(self.source)


@dataclass(frozen=True)
class Exercise:
    """What an instructor's notebook holds.

    Args:
        assignment: ``NN_name``.
        parts: the cells with names, in order.
        examples: code of the cells without a name, which students may change.
        titles: by task, its heading; under the empty name, the exercise's.
    """

    assignment: str
    parts: tuple[Part, ...]
    examples: tuple[str, ...] = ()
    titles: dict[str, str] | None = None

    @classmethod
    def read(cls, notebook: Mapping[str, Any], assignment: str) -> Exercise:
        """The exercise in a notebook as :func:`proctor.release.read_source` gives it.

        Raises:
            ValueError: if a name is given twice, or a cell is to be marked by hand.
        """
        parts: list[Part] = []
        examples: list[str] = []
        titles: dict[str, str] = {}
        for cell in notebook["cells"]:
            marks, source = cell["metadata"].get("nbgrader", {}), cell["source"]
            is_code = cell["cell_type"] == "code"
            if marks.get("grade") and (marks.get("solution") or not is_code):
                raise ValueError(f"{marks['grade_id']} is to be marked by hand; proctor marks code")
            kind = next((k for k in _FLAGS if marks.get(_FLAGS[k])), None)
            if kind and is_code:
                points = float(marks.get("points", 0)) if kind == "check" else 0.0
                released = _released(source, kind)
                parts.append(Part(kind, marks["grade_id"], source, released, points))
            elif is_code:
                examples.append(source)
            else:
                name = cell["metadata"].get("proctor", {}).get("task", "" if not titles else None)
                heading = re.search(r"^#+\s+(.+)$", source, re.M)
                if name is not None and heading:
                    titles.setdefault(name, heading.group(1).strip())
        names = [part.grade_id for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cells of {assignment} share a name: {', '.join(twice)}")
        return cls(assignment, tuple(parts), tuple(examples), titles)

    @cached_property
    def by_name(self) -> dict[str, Part]:
        """Every part by its ``grade_id``."""
        return {part.grade_id: part for part in self.parts}

    @cached_property
    def locked(self) -> tuple[Part, ...]:
        """The cells that run on both sides before what follows them."""
        return tuple(part for part in self.parts if part.kind == "locked")

    @cached_property
    def answers(self) -> tuple[Part, ...]:
        """The cells that students fill in."""
        return tuple(part for part in self.parts if part.kind == "answer")

    @cached_property
    def checks(self) -> tuple[Part, ...]:
        """The graded cells."""
        return tuple(part for part in self.parts if part.kind == "check")

    def as_data(self) -> dict[str, Any]:
        """The exercise as plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Exercise:
        """The exercise that :meth:`as_data` wrote."""
        parts = tuple(Part(**part) for part in data["parts"])
        return cls(data["assignment"], parts, tuple(data["examples"]), data["titles"])

    def title(self, task: str) -> str:
        """The heading of a task; its name where it has none."""
        return (self.titles or {}).get(task, task)


_FLAGS = {"check": "grade", "answer": "solution", "locked": "locked"}


def lines_of(source: str) -> frozenset[str]:
    """The lines of a text that say something, without their indentation."""
    return frozenset(line.strip() for line in source.split("\n") if len(line.strip()) > 3)


def defined_in(source: str, only_code: bool = False) -> frozenset[str]:
    """Names that a cell defines at its left margin: functions and classes, and variables too."""
    found = _DEFINED.findall(source)
    return frozenset(code or ("" if only_code else name) for code, name in found) - {""}


def checksum(source: str, claims: dict) -> str:
    """nbgrader's checksum of a code cell: what it had when it was released, if it is unchanged."""
    grade, solution = bool(claims.get("grade")), bool(claims.get("solution"))
    locked = not solution and (grade or bool(claims.get("locked")))
    parts = [source, "code", str(grade), str(solution), str(locked), str(claims.get("grade_id"))]
    if grade:
        points = claims.get("points")
        parts.append(str(float(points)) if isinstance(points, int | float) else "")
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def _released(source: str, kind: str) -> str:
    """What nbgrader's release step leaves of a cell."""
    if kind == "answer" and "### BEGIN SOLUTION" not in source:
        return STUB
    kept: list[str] = []
    inside = False
    for line in source.split("\n"):
        if "### BEGIN SOLUTION" in line:
            kept.append(line[: len(line) - len(line.lstrip())] + STUB)
        inside = inside or "### BEGIN" in line
        if not inside:
            kept.append(line)
        if "### END" in line:
            inside = False
    return "\n".join(kept)

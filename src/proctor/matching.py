"""Whose cell is whose: the cells of a submission against those of the exercise.

By id first, then by likeness, then by place. Checks and setup are always the exercise's own;
an answer is the student's last edit; what is left is the student's own code, and keeps its place.
"""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import dataclass, field
from typing import Any

from proctor.exercise import Cell, Exercise

LIKE = 0.6
STUB = re.compile(r"^\s*(# YOUR CODE HERE|raise NotImplementedError\(.*\))\s*$", re.M)


@dataclass(frozen=True)
class Step:
    """One thing to do with a submission, in order: run a cell or make a check.

    Args:
        kind: ``setup``, ``answer``, ``own`` (a cell that the student added), ``check``, ``manual``.
        id: of the cell; for the student's own, a number.
        source: what is run; empty where the answer is missing.
        touched: whether the student changed it.
    """

    kind: str
    id: str
    source: str
    touched: bool = True


@dataclass
class _Found:
    """A cell of the submission; ``claimed`` names the cell of the exercise that it is."""

    kind: str
    source: str
    names: tuple[str, ...]
    marks: dict[str, Any] = field(default_factory=dict)
    claimed: str = ""


@dataclass
class Found:
    """A cell of the submission; ``claimed`` names the cell of the exercise that it is."""

    kind: str
    source: str
    names: tuple[str, ...]
    marks: dict[str, Any] = field(default_factory=dict)
    claimed: str = ""


def steps(exercise: Exercise, cells: list[Found], notes: list[str]) -> tuple[Step, ...]:
    """What to do with a submission, in order; what was odd about it goes into ``notes``."""
    for cell in exercise.cells:
        if cell.kind != "text":
            _claim(cell, cells, notes)
    for cell in exercise.cells:
        if cell.kind in ("answer", "manual") and not any(f.claimed == cell.id for f in cells):
            _claim_by_likeness(cell, exercise, cells, notes)
    for found in cells:
        if found.kind == "code" and not found.claimed:
            _drop_copied_check(found, exercise)
    return _steps(exercise, cells, notes)


def _claim(cell: Cell, cells: list[Found], notes: list[str]) -> None:
    """Find a cell of the exercise by its id."""
    for place in (0, 1):
        same = [f for f in cells if not f.claimed and f.names[place : place + 1] == (cell.id,)]
        if place == 1:
            same = [f for f in cells if not f.claimed and cell.id in f.names]
        if same:
            break
    else:
        return
    for found in same:
        found.claimed = f"copy of {cell.id}"
    chosen = same[-1]
    if cell.kind in ("answer", "manual"):
        edited = [f for f in same if not _equal(f.source, cell.released)]
        written = [f for f in edited if not _is_stub(f.source, cell)]
        chosen = (written or edited or same)[-1]
        if chosen.kind != "code" and cell.kind == "answer":
            notes.append(f"the answer {cell.id} had become a text cell; it was run as code")
    chosen.claimed = cell.id
    if len(same) > 1:
        notes.append(f"{cell.id} is there {len(same)} times; the last edited copy counts")
    _note_tampering(cell, chosen, notes)


def _note_tampering(cell: Cell, found: Found, notes: list[str]) -> None:
    if cell.kind in ("check", "setup") and not _equal(found.source, cell.released):
        notes.append(f"{cell.id} was edited; the original was run")
    marks = found.marks
    if not marks:
        if cell.kind != "code":
            notes.append(f"the metadata of {cell.id} was lost and was put back")
        return
    if cell.kind == "check" and marks.get("points") not in (None, cell.points):
        notes.append(f"the points of {cell.id} were changed; the original ones count")
    flags = {
        "grade": cell.kind in ("check", "manual"),
        "solution": cell.kind in ("answer", "manual"),
    }
    if cell.kind != "code" and any(bool(marks.get(k)) != v for k, v in flags.items()):
        notes.append(f"the flags of {cell.id} were changed and were put back")


def _claim_by_likeness(
    cell: Cell, exercise: Exercise, cells: list[Found], notes: list[str]
) -> None:
    """Find an answer that lost its id: by the names it defines, by its text, by its place."""
    free = [f for f in cells if not f.claimed and f.source.strip() and f.kind == "code"]
    names = _defined(cell.source)
    alike = [f for f in free if names and names & _defined(f.source)]
    if not alike:
        ratio = difflib.SequenceMatcher(autojunk=False)
        ratio.set_seq2(cell.released)
        for found in free:
            ratio.set_seq1(found.source)
            if ratio.quick_ratio() > LIKE and ratio.ratio() > LIKE:
                alike.append(found)
    if not alike:
        alike = _between_neighbours(cell, exercise, cells)
    if alike:
        alike[-1].claimed = cell.id
        notes.append(f"the answer {cell.id} had lost its id and was found by likeness")


def _between_neighbours(cell: Cell, exercise: Exercise, cells: list[Found]) -> list[Found]:
    """The one code cell between the cells around an answer, if there is exactly one."""
    order = [c.id for c in exercise.cells if c.kind != "text"]
    where = {f.claimed: i for i, f in enumerate(cells) if f.claimed}
    i = order.index(cell.id)
    before = max((where[n] for n in order[:i] if n in where), default=-1)
    after = min((where[n] for n in order[i + 1 :] if n in where), default=len(cells))
    inside = [f for f in cells[before + 1 : after] if f.kind == "code" and not f.claimed]
    return inside if len(inside) == 1 and before >= 0 else []


def _drop_copied_check(found: Found, exercise: Exercise) -> None:
    """A check without its id is still a check, not the student's code."""
    for cell in exercise.cells:
        if cell.kind in ("check", "setup") and _equal(found.source, cell.released):
            found.claimed = f"copy of {cell.id}"
            return


def _steps(exercise: Exercise, cells: list[Found], notes: list[str]) -> tuple[Step, ...]:
    order = {c.id: i for i, c in enumerate(exercise.cells) if c.kind != "text"}
    behind: dict[int, list[Step]] = {}
    anchor, claimed = -1, {f.claimed: f for f in cells if f.claimed}
    for number, found in enumerate(cells):
        if found.claimed in order:
            anchor = order[found.claimed]
        elif found.kind == "code" and not found.claimed and found.source.strip():
            source = _python(found.source, notes)
            behind.setdefault(anchor, []).append(Step("own", f"own cell {number + 1}", source))
            if found.marks.get("grade"):
                notes.append("a graded cell that the exercise does not have was run as code")
    steps = behind.get(-1, [])
    missing = []
    for i, cell in enumerate(exercise.cells):
        found = claimed.get(cell.id) if cell.kind != "text" else None
        if cell.kind in ("setup", "check"):
            steps.append(Step(cell.kind, cell.id, cell.source, False))
        elif cell.kind in ("answer", "manual"):
            source = "" if found is None else found.source
            touched = found is not None and not _is_stub(source, cell)
            source = _python(source, notes) if cell.kind == "answer" else source
            steps.append(Step(cell.kind, cell.id, source, touched))
        elif cell.kind == "code" and found is not None:
            touched = not _equal(found.source, cell.source)
            steps.append(Step("own", cell.id, _python(found.source, notes), touched))
        if cell.kind in ("setup", "check", "answer", "manual") and found is None:
            missing.append(cell.id)
        steps += behind.get(i, [])
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        notes.append(f"missing cells were put back: {shown}")
    return tuple(steps)


def _is_stub(source: str, cell: Cell) -> bool:
    """Whether an answer is still as it was released; nbgrader fills the gap with a line."""
    rest = re.sub(
        r"^\s*(# YOUR CODE HERE|raise NotImplementedError\(.*\))\s*$", "", source, flags=re.M
    )
    return _equal(rest, cell.released)


def _equal(a: str, b: str) -> bool:
    """Equal but for white space at the ends of lines, and empty lines."""
    return [s.rstrip() for s in a.splitlines() if s.strip()] == [
        s.rstrip() for s in b.splitlines() if s.strip()
    ]


def _defined(source: str) -> set[str]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.M))
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return {node.name for node in body if isinstance(node, kinds)}


def _python(source: str, notes: list[str]) -> str:
    """A cell without notebook commands, which are no Python; lines keep their numbers."""
    if not re.search(r"^\s*[%!?]|\?\s*$", source, re.M):
        return source
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    notes.append("notebook commands (lines with %, ! or ?) were left out")
    first = source.lstrip().partition("\n")[0]
    if first.startswith("%%") and not first.startswith(("%%time", "%%capture", "%%prun")):
        return ""
    return re.sub(r"^([ \t]*)(?:[%!?].*|[\w.]+\?{1,2}\s*)$", r"\1pass", source, flags=re.M)

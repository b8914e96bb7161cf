"""Bytes in, cells or a reason out; nothing that a student hands in raises here.

What can be repaired is repaired and noted: encodings, the old notebook format, lost metadata, cells
that were copied, deleted or turned into text. Checks are never taken from a submission.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any

from proctor import matching
from proctor.exercise import Exercise, text_of
from proctor.matching import Found, Step

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 100
MAX_BRACKETS = 2_000_000
MAX_CELLS = 2_000
MAX_SOURCE = 200_000
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.S)


@dataclass(frozen=True)
class Intake:
    """What was made of a submission.

    Args:
        steps: in order; empty where ``reason`` says why.
        notes: what was repaired, and what was found that should not be.
        reason: why nothing could be taken in; empty otherwise.
    """

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def cells(self) -> str:
        """The student's cells as one text: what the seed and the record are made of."""
        mine = [[s.kind, s.id, s.source] for s in self.steps if s.kind in ("answer", "own")]
        return json.dumps(mine)


def take_in(data: bytes, exercise: Exercise) -> Intake:
    """Make what can be made of the bytes of a submission.

    Returns:
        Steps in the exercise's order, with the student's own cells where the student put them.
    """
    try:
        return _take_in(data, exercise)
    except (Exception, RecursionError) as error:  # a reason is worth more to a class than a stop
        return Intake(reason=f"the file could not be taken in ({type(error).__name__})")


def _take_in(data: bytes, exercise: Exercise) -> Intake:
    notes: list[str] = []
    notebook = _parse(data, notes)
    if isinstance(notebook, str):
        return Intake(reason=notebook)
    cells = _cells(notebook, notes)
    if isinstance(cells, str):
        return Intake(reason=cells)
    steps = matching.steps(exercise, cells, notes)
    return Intake(steps, tuple(dict.fromkeys(notes)))


def _parse(data: bytes, notes: list[str]) -> dict[str, Any] | str:
    if not data.strip():
        return "the file is empty"
    if len(data) > MAX_BYTES:
        return f"the file has {len(data) / 2**20:.0f} MiB, more than {MAX_BYTES >> 20}"
    text = _decode(data, notes)
    raw = text.encode("utf-8", "replace")
    depth = _depth(raw)
    if depth is None or depth > MAX_DEPTH:
        return f"the file nests deeper than any notebook (more than {MAX_DEPTH} levels)"
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return "the file is no notebook: it is not JSON"
    if not isinstance(notebook, dict):
        return "the file is no notebook: it is JSON of another kind"
    return notebook


def _decode(data: bytes, notes: list[str]) -> str:
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (codecs.BOM_UTF8, "utf-8-sig"),
    ):
        if data.startswith(mark):
            notes.append(f"the file was read as {name.upper()}")
            return data.decode(name, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("the file is not UTF-8 and was read as Windows-1252")
        return data.decode("cp1252", "replace")


def _depth(data: bytes) -> int | None:
    """How deep brackets nest outside of strings; None where there are too many to count."""
    bare = STRING.sub(b"", data) if data.count(b"[") + data.count(b"{") > MAX_DEPTH else b""
    if bare.count(b"[") + bare.count(b"{") > MAX_BRACKETS:
        return None
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _cells(notebook: dict[str, Any], notes: list[str]) -> list[Found] | str:
    raw = notebook.get("cells")
    if not isinstance(raw, list) and isinstance(notebook.get("worksheets"), list):
        sheets = [s.get("cells") for s in notebook["worksheets"] if isinstance(s, dict)]
        raw = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
        notes.append("the notebook was in format 3 and was converted")
    if not isinstance(raw, list):
        return "the notebook holds no cells"
    if len(raw) > MAX_CELLS:
        return f"the notebook has {len(raw)} cells, more than {MAX_CELLS}"
    kernel = _dict(_dict(notebook.get("metadata")).get("kernelspec"))
    if kernel.get("language", "python") != "python":
        notes.append("the notebook asked for another kernel; it was run as Python")
    cells = []
    for cell in raw:
        if not isinstance(cell, dict):
            notes.append("something that is no cell was left out")
            continue
        source = text_of(cell)
        if len(source) > MAX_SOURCE:
            notes.append(f"a cell of {len(source)} characters was left out")
            continue
        clean = source.encode("utf-8", "replace").decode()
        if clean != source:
            notes.append("characters that are none were replaced")
        marks = _dict(_dict(cell.get("metadata")).get("nbgrader"))
        names = tuple(str(n) for n in (marks.get("grade_id"), cell.get("id")) if n is not None)
        cells.append(Found(str(cell.get("cell_type")), clean.replace("\r\n", "\n"), names, marks))
    return cells


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

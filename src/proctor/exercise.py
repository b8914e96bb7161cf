"""An exercise as proctor sees it: its cells in order, with hidden tests, points and what is banned.

Read from the instructor's notebook (:func:`proctor.release.write_source` makes it), whose cells
carry nbgrader's metadata. What students saw is the same without answers and hidden tests.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import sysconfig
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from proctor import bans

SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION.*?### END SOLUTION[^\n]*\n?", re.S | re.M)
HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.S | re.M)
KINDS = ("setup", "answer", "check", "manual", "code", "text")


@dataclass(frozen=True)
class Cell:
    """One cell of the instructor's notebook.

    Args:
        id: nbgrader's ``grade_id``, or the cell's own id.
        kind: one of :data:`KINDS`; ``setup`` is a locked cell without points, ``manual`` an answer
            that a person marks.
        source: with answer and hidden tests.
        points: that it is worth.
    """

    id: str
    kind: str
    source: str
    points: float = 0.0

    @property
    def task(self) -> str:
        """The task it belongs to: a check is named ``TASK__PROPERTY``."""
        return self.id.partition("__")[0]

    @property
    def released(self) -> str:
        """What students saw: no hidden tests; where the answer belongs, only what is around it."""
        return SOLUTION.sub("", HIDDEN.sub("", self.source)).rstrip()


@dataclass(frozen=True)
class Exercise:
    """All cells of an exercise.

    Args:
        assignment: nbgrader's name for it, ``NN_name``.
        notebook: name of the notebook file without its ending.
        cells: in order.
    """

    assignment: str
    notebook: str
    cells: tuple[Cell, ...]
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[Cell, ...]:
        """The cells that earn points, in order."""
        return tuple(c for c in self.cells if c.kind in ("check", "manual"))

    @property
    def points(self) -> float:
        """Points of all checks."""
        return sum(c.points for c in self.checks)

    @property
    def setup(self) -> list[str]:
        """Sources of the locked cells, which run on both sides."""
        return [c.source for c in self.cells if c.kind == "setup"]

    @property
    def banned(self) -> tuple[str, ...]:
        """What students may not use."""
        return tuple(dict.fromkeys(name for source in self.setup for name in bans.declared(source)))

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that the released notebook imports, banned ones left out."""
        names: dict[str, None] = {}
        for cell in self.cells:
            if cell.kind in ("setup", "answer", "code"):
                names |= dict.fromkeys(_imported(cell.released))
        return tuple(n for n in names if not any(f"{n}.".startswith(f"{b}.") for b in self.banned))

    def as_json(self) -> dict[str, Any]:
        """Plain data that :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Exercise:
        """An exercise from :meth:`as_json`."""
        cells = tuple(Cell(**c) for c in data["cells"])
        return cls(data["assignment"], data["notebook"], cells, data["titles"])

    @classmethod
    def read(cls, path: Path, assignment: str) -> Exercise:
        """Read an instructor's notebook.

        Raises:
            ValueError: if it cannot be read, or two cells have one id.
        """
        try:
            cells = json.loads(path.read_text("utf-8"))["cells"]
            found = tuple(_cell(c, i) for i, c in enumerate(cells))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no instructor's notebook: {error}") from None
        ids = [c.id for c in found if c.kind != "text"]
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise ValueError(f"{path.name} has two cells named {', '.join(repeated)}")
        return cls(assignment, path.stem, found, _titles(cells))


def library_folders(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Folders of those modules' packages that lie outside the interpreter's own."""
    inside = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    folders: dict[str, None] = {}
    for name in modules:
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None or not spec.origin or not spec.has_location:
            continue
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        if not any(str(place).startswith(str(root)) for root in inside):
            folders[str(place)] = None
    return tuple(folders)


def text_of(cell: dict[str, Any]) -> str:
    """The source of a cell, which the format allows to be one string or a list of lines."""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _cell(cell: dict[str, Any], number: int) -> Cell:
    marks = cell.get("metadata", {}).get("nbgrader", {})
    name = str(marks.get("grade_id") or cell.get("id") or f"cell-{number}")
    points = float(marks.get("points") or 0)
    if marks.get("grade"):
        kind = "manual" if marks.get("solution") else "check"
    elif marks.get("solution"):
        kind = "answer"
    elif cell["cell_type"] != "code":
        kind = "text"
    else:
        kind = "setup" if marks.get("locked") else "code"
    return Cell(name, kind, text_of(cell), points)


def _titles(cells: list[dict[str, Any]]) -> dict[str, str]:
    """The heading over each task, where there is one."""
    titles = {}
    for cell in cells:
        task = cell.get("metadata", {}).get("proctor", {}).get("task")
        if task:
            titles[task] = text_of(cell).partition("\n")[0].lstrip("# ").strip()
    return titles


def _imported(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{item.name}" for item in node.names)]
    return names

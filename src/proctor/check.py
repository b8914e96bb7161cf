"""What a student runs: the visible checks of a notebook, here, as it was saved, without walls.

``proctor check NOTEBOOK`` on the command line, or in a cell of any notebook::

    from proctor.check import check

    check("self_attention.ipynb")
"""

from __future__ import annotations

import contextlib
import html
import io
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proctor.magics import notebook_names, without_magics
from proctor.reading import LooseCell, Unreadable, read

NOTHING = "nothing is written here yet"


@dataclass(frozen=True)
class Shown:
    """One visible check.

    Args:
        name: of the check, ``TASK__PROPERTY``.
        points: that it is worth.
        passed: whether it did.
        message: what it said where it did not.
    """

    name: str
    points: float
    passed: bool
    message: str = ""

    @property
    def task(self) -> str:
        """The task that it belongs to."""
        return self.name.partition("__")[0]


@dataclass(frozen=True)
class Result:
    """All visible checks of a notebook."""

    checks: tuple[Shown, ...]

    @property
    def passed(self) -> bool:
        """Whether every visible check passed."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """One row a task: its name, visible checks passed, points of these, what to look at."""
        rows = []
        for task in dict.fromkeys(check.task for check in self.checks):
            mine = [check for check in self.checks if check.task == task]
            lost = [check for check in mine if not check.passed]
            points = sum(c.points for c in mine if c.passed), sum(c.points for c in mine)
            passed = f"{len(mine) - len(lost)} of {len(mine)}"
            said = f"{lost[0].name}: {lost[0].message}" if lost else "all visible checks pass"
            rows.append((task, passed, f"{points[0]:g} / {points[1]:g}", said))
        return rows

    def table(self) -> Any:
        """A table for a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table("task", "checks", "points", "what to look at", show_lines=True)
        for row in self.rows():
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        table.caption = "Visible checks only; hidden ones hold your code to other cases."
        return table

    def _repr_html_(self) -> str:
        head = "<tr><th>task</th><th>checks</th><th>points</th><th>what to look at</th></tr>"
        rows = "".join(
            "<tr>" + "".join(f"<td><pre>{html.escape(c)}</pre></td>" for c in row) + "</tr>"
            for row in self.rows()
        )
        return f"<table>{head}{rows}</table>"


def check(notebook: str | Path) -> Result:
    """Run a saved notebook's cells and its visible checks, in order, in this process.

    Raises:
        ValueError: if the file cannot be read, is no notebook, or holds no checks.
    """
    path = Path(notebook)
    try:
        cells, _ = read(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise ValueError(f"{path}: {error}") from None
    names: dict[str, Any] = {"__name__": "__main__"} | notebook_names()
    found = []
    stopped: dict[str, str] = {}  # by task, what stopped its cell
    for number, cell in enumerate(cells, 1):
        if cell.kind == "code" and cell.source.strip():
            said = _run(cell, names, f"<cell {number}>")
            if cell.claims.get("solution"):
                stopped[cell.grade_id] = said
            if cell.claims.get("grade") and _says_something(cell.source):
                why = stopped.get(cell.grade_id.partition("__")[0])
                if said and why:
                    said = why if why == NOTHING else f"your cell stopped: {why}\n{said}"
                found.append(Shown(cell.grade_id, _points(cell), not said, said))
    if not found:
        raise ValueError(f"{path} holds no checks: is it the notebook of an exercise?")
    return Result(tuple(found))


def _run(cell: LooseCell, names: dict[str, Any], where: str) -> str:
    """Run one cell, keeping what it prints to itself; what went wrong, or nothing."""
    silence = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            exec(compile(without_magics(cell.source), where, "exec", dont_inherit=True), names)
    except NotImplementedError:
        return NOTHING
    except AssertionError as error:
        return str(error) or "the result is not what it should be"
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _says_something(source: str) -> bool:
    """Whether there is a test in a check, or only the remark that it is hidden."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in source.splitlines())


def _points(cell: LooseCell) -> float:
    points = cell.claims.get("points")
    return float(points) if isinstance(points, int | float) else 0.0

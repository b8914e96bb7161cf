"""From a reviewed source to a released notebook.

``solutions/NN_name/name.py`` is a py:percent script whose cells carry short metadata::

    # %% setup=true                                              locked: imports, what is banned
    # %% [markdown] task="mask" difficulty=1 minutes=8           the text of a task
    # %% answer="mask"                                           the cell a student fills in
    # %% check="mask__offset" points=2                           a graded cell, tests in it

:func:`read_source` turns it into the notebook that nbgrader wants, :func:`release` into the one
that students get. Everything that can be counted (points, minutes, what builds on what) is counted
here, never typed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from proctor.sources import ReleaseError, assignments, made_from, source_path

__all__ = ["ReleaseError", "assignments", "read_source", "release", "source_path"]
KINDS = ("setup", "task", "answer", "check")
LEVELS = {1: "●○○", 2: "●●○", 3: "●●●"}


def read_source(path: Path) -> NotebookNode:
    """The instructor's notebook: answers, visible and hidden tests, nbgrader's metadata.

    Raises:
        ReleaseError: if a cell's metadata is unknown, an id repeats, or a task lacks its answer,
            its checks or its text.
    """
    import jupytext

    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = {"kernelspec": notebook.metadata.get("kernelspec", _kernelspec())}
    tasks = _tasks(notebook, path)
    names = iter(range(len(notebook.cells)))
    for cell in notebook.cells:
        short, cell.metadata = dict(cell.metadata), NotebookNode()
        number = next(names)
        if "setup" in short:
            _mark(cell, "setup", locked=True)
        elif "answer" in short:
            _mark(cell, short["answer"], solution=True)
        elif "check" in short:
            _mark(cell, short["check"], grade=True, locked=True, points=short["points"])
        elif "task" in short:
            cell.id = f"task-{short['task']}"
            cell.metadata["proctor"] = short
            cell.source = _under_heading(cell.source, _task_line(short, tasks))
        else:
            cell.id = f"cell-{number}"
    intro = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    intro.source = _under_heading(intro.source, _total_line(tasks))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def write_source(root: Path, assignment: str) -> Path:
    """Write the notebook that nbgrader wants beside the source; returns its path."""
    path = source_path(root, assignment)
    target = path.with_suffix(".ipynb")
    notebook = read_source(path)
    notebook.metadata["proctor"] = {"made_from": made_from(path, notebook)}
    _write_if_changed(target, nbformat.writes(notebook) + "\n")
    return target


def make_release(root: Path, assignment: str) -> str:
    """The released notebook as text, made by nbgrader's own release step in a scratch course.

    Raises:
        ReleaseError: if a check breaks the contract of the engine, with its line and the reason, or
            nbgrader refuses the source, with its reason.
    """
    from proctor import contract
    from proctor.exercise import Exercise

    path = source_path(root, assignment)
    broken = contract.breaches(Exercise.read(read_source(path), assignment))
    if broken:
        raise ReleaseError("\n".join(f"{path.name}: {breach}" for breach in broken))
    source = write_source(root, assignment)
    with scratch_course(root, assignment, source) as (course, api):
        _quietly(api.generate_assignment, assignment, create=True, force=True)
        released = course / "exercises" / assignment / source.name
        notebook = nbformat.read(released, as_version=4)
    notebook.metadata = NotebookNode(kernelspec=_kernelspec())
    return nbformat.writes(notebook) + "\n"


def release(root: Path, assignment: str) -> tuple[Path, Path | None]:
    """Write ``exercises/NN_name/name.ipynb``; nothing is touched where nothing changed.

    A notebook that was edited by hand (it equals neither the last release nor the committed one) is
    kept beside the new one, since it may be somebody's work.

    Returns:
        The released notebook, and where an edited one was kept (None where there was none).
    """
    target = released_path(root, assignment)
    text = make_release(root, assignment)
    kept = None
    if target.is_file() and target.read_text("utf-8") != text and _edited(root, target):
        digest = hashlib.sha256(target.read_bytes()).hexdigest()[:8]
        kept = target.with_name(f"{target.stem}.kept-{digest}.ipynb")
        shutil.copy2(target, kept)
    _write_if_changed(target, text)
    _write_if_changed(_record(root, target), _made(root, target))
    return target, kept


def is_fresh(root: Path, assignment: str) -> bool:
    """Whether the release is the one made from the source as it is now."""
    target = released_path(root, assignment)
    record = _record(root, target)
    return target.is_file() and record.is_file() and record.read_text() == _made(root, target)


def released_path(root: Path, assignment: str) -> Path:
    """Where a release lies: ``exercises/05_name/name.ipynb``."""
    return root / "exercises" / assignment / f"{assignment.partition('_')[2]}.ipynb"


@contextmanager
def scratch_course(root: Path, assignment: str, source: Path) -> Iterator[tuple[Path, object]]:
    """A course folder of its own with one assignment, and nbgrader's API on it.

    The gradebook of the real course stays out of it: nbgrader refuses to release an assignment
    again once there are submissions.
    """
    from nbgrader.apps import NbGraderAPI

    with tempfile.TemporaryDirectory(prefix="lookback-release-") as folder:
        course = Path(folder)
        (course / "solutions" / assignment).mkdir(parents=True)
        shutil.copy2(source, course / "solutions" / assignment)
        yield course, NbGraderAPI(config=course_config(root, course))


def course_config(root: Path, course: Path):
    """The configuration of ``root`` with another course folder in its place."""
    from traitlets.config import PyFileConfigLoader

    # nbgrader calls the alembic command, which lies beside this interpreter
    here = str(Path(sys.executable).parent)
    if here not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = here + os.pathsep + os.environ["PATH"]
    config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    return config


def _tasks(notebook: NotebookNode, path: Path) -> dict[str, dict]:
    """Every task with its difficulty, minutes, points and checks, in the order of the notebook."""
    tasks: dict[str, dict] = {}
    seen: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        kinds = [kind for kind in KINDS if kind in cell.metadata]
        where = f"{path.name}, cell {number}"
        if len(kinds) > 1:
            raise ReleaseError(f"{where}: a cell is one of {', '.join(KINDS)}, not {kinds}")
        if not kinds:
            continue
        name = cell.metadata[kinds[0]]
        if (kinds[0], name) in seen:
            raise ReleaseError(f"{where}: {kinds[0]} {name!r} is there twice")
        seen.add((kinds[0], name))
        if kinds[0] == "task":
            if cell.metadata.get("difficulty") not in LEVELS or "minutes" not in cell.metadata:
                raise ReleaseError(f"{where}: task {name!r} needs difficulty=1|2|3 and minutes=…")
            tasks[name] = {"points": 0, "checks": 0, "answered": False, **cell.metadata}
        elif kinds[0] in ("answer", "check"):
            owner = name.partition("__")[0]
            if owner not in tasks:
                raise ReleaseError(f"{where}: {name!r} belongs to no task above it")
            if kinds[0] == "answer":
                tasks[owner]["answered"] = True
            else:
                if not isinstance(cell.metadata.get("points"), int):
                    raise ReleaseError(f"{where}: check {name!r} needs points=…")
                tasks[owner]["points"] += cell.metadata["points"]
                tasks[owner]["checks"] += 1
    for name, task in tasks.items():
        if not (task["answered"] and task["checks"]):
            raise ReleaseError(f"{path.name}: task {name!r} lacks its answer or its checks")
    return tasks


def _task_line(short: dict, tasks: dict[str, dict]) -> str:
    points = tasks[short["task"]]["points"]
    line = f"{LEVELS[short['difficulty']]} · {short['minutes']} minutes · {points} points"
    return line + (f" · builds on `{short['builds_on']}`" if "builds_on" in short else "")


def _total_line(tasks: dict[str, dict]) -> str:
    points = sum(task["points"] for task in tasks.values())
    minutes = sum(task["minutes"] for task in tasks.values())
    return f"{len(tasks)} tasks · {points} points · about {minutes} minutes"


def _under_heading(markdown: str, line: str) -> str:
    heading, _, rest = markdown.partition("\n")
    return f"{heading}\n\n*{line}*\n{rest}"


def _mark(cell: NotebookNode, grade_id: str, points: int | None = None, **flags: bool) -> None:
    marks = {"grade": False, "solution": False, "locked": False, "task": False} | flags
    marks |= {"grade_id": grade_id, "schema_version": 3}
    if points is not None:
        marks["points"] = points
    cell.metadata["nbgrader"] = NotebookNode(marks)
    cell.id = grade_id[:64]


def _kernelspec() -> NotebookNode:
    return NotebookNode(display_name="Python 3", language="python", name="python3")


def _quietly(call, *args, **options) -> None:
    result = call(*args, **options)
    if not result["success"]:
        reason = result.get("error") or result.get("log") or "no reason given"
        raise ReleaseError(f"nbgrader could not release {args[0]}:\n{reason}")


def _edited(root: Path, target: Path) -> bool:
    """Whether a release was changed since it was last made or committed."""
    record = _record(root, target)
    if record.is_file() and record.read_text().split()[-1] == _digest(target):
        return False
    name = target.relative_to(root).as_posix()
    committed = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=root, capture_output=True)
    return committed.returncode != 0 or committed.stdout != target.read_bytes()


def _made(root: Path, target: Path) -> str:
    """What a release was made from and what came out, as two hashes."""
    source = source_path(root, target.parent.name)
    parts = (source, root / "nbgrader_config.py", Path(__file__))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()
    return f"{digest} {_digest(target)}\n"


def _record(root: Path, target: Path) -> Path:
    return root / "_build" / "released" / f"{target.stem}.sha256"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_if_changed(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)

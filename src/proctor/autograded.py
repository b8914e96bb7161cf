"""Marked notebooks for nbgrader's formgrader: ``autograded/STUDENT/NN_name/name.ipynb``.

The exercise's own cells stand in their place, hidden tests among them, so these files are the
instructor's alone. What came back from a check is its output; nothing of it is markup.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from proctor.files import write_whole
from proctor.records import OUTCOMES, Cell, CheckResult, Record

if TYPE_CHECKING:
    from nbformat import NotebookNode


def notebook(record: Record, source: NotebookNode) -> NotebookNode:
    """The instructor's notebook with the student's code and each check's outcome in it.

    Args:
        record: of the submission.
        source: as :func:`proctor.release.read_source` gives it; it is not changed.

    Returns:
        A notebook in which the student's own cells follow the answer that they followed.
    """
    results = {check.grade_id: check for check in record.checks}
    answers = {cell.grade_id: cell for cell in record.cells if cell.grade_id}
    own = _own_cells(record)
    book = deepcopy(source)
    book.cells = []
    for given in source.cells:
        cell = deepcopy(given)
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if cell.metadata.get("nbgrader", {}).get("solution"):
            _fill(cell, answers.get(name, Cell(name, "")))
        elif name in results:
            cell.outputs = _outcome(results[name])
        book.cells.append(cell)
        if cell.cell_type == "code":
            book.cells += own.pop(name if name in answers else "", [])
    return book


def write(folder: Path, record: Record, source: NotebookNode, timestamp: str = "") -> Path:
    """Write a marked notebook, and beside it when it was handed in.

    Returns:
        Where it lies.

    Raises:
        ValueError: if the student's name cannot be a folder's.
        StoreError: if the place cannot be written to.
    """
    import nbformat

    name = record.student
    if name in ("", ".", "..") or set(name) & set("/\0"):
        raise ValueError(f"{name!r} cannot be the name of a folder")
    file = f"{record.assignment.partition('_')[2] or record.assignment}.ipynb"
    path = Path(folder) / name / record.assignment / file
    text = nbformat.writes(notebook(record, source))
    write_whole(path, text.encode("utf-8", "replace"))
    if timestamp:
        write_whole(path.with_name("timestamp.txt"), timestamp.encode("utf-8", "replace"))
    return path


def _own_cells(record: Record) -> dict[str, list[NotebookNode]]:
    """The student's own cells by the answer before them; under no name, those before all."""
    from nbformat.v4 import new_code_cell

    found: dict[str, list[NotebookNode]] = {}
    before = ""
    for number, cell in enumerate(record.cells):
        if cell.grade_id:
            before = cell.grade_id
            continue
        made = new_code_cell(id=f"own-{number}")
        _fill(made, cell)
        found.setdefault(before, []).append(made)
    return found


def _fill(cell: NotebookNode, written: Cell) -> None:
    """Put a student's code into a cell, and what it printed when it was graded below it."""
    from nbformat.v4 import new_output

    cell.source = written.source
    cell.outputs = []
    if written.printed:
        cell.outputs.append(new_output("stream", name="stdout", text=written.printed))
    if written.error:
        cell.outputs.append(_error("Error", written.error))


def _outcome(check: CheckResult) -> list[NotebookNode]:
    """What nbgrader takes for full marks, part of them or none."""
    if check.earned == check.points and check.outcome == "passed":
        return []
    said = check.message or OUTCOMES[check.outcome]
    if check.counterexample:
        said += f"\n{check.counterexample}"
    if check.earned:
        from nbformat.v4 import new_output

        part = new_output("execute_result", data={"text/plain": f"{check.earned:g}"})
        return [new_output("stream", name="stdout", text=said), part]
    return [_error(check.outcome, said)]


def _error(kind: str, said: str) -> NotebookNode:
    from nbformat.v4 import new_output

    return new_output("error", ename=kind, evalue=said, traceback=said.split("\n"))

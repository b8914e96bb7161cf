"""Where the reviewed sources lie, and the notebooks made from them, as plain data.

The libraries that make a notebook of a source take seconds to load. Releasing leaves the notebook
beside its source with a hash of both; while neither has changed, grading reads that one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


class ReleaseError(ValueError):
    """A source that cannot be released; the message names the file, the cell and the mend."""


def assignments(root: Path) -> list[str]:
    """Names of all exercises under ``root/solutions``, in the order of the chapters."""
    return sorted(
        path.parent.name for path in root.glob("solutions/[0-9]*_*/*.py") if _is_source(path)
    )


def source_path(root: Path, assignment: str) -> Path:
    """The reviewed source of an assignment: ``solutions/05_name/name.py``.

    Raises:
        ReleaseError: if there is none, naming those there are.
    """
    path = root / "solutions" / assignment / f"{assignment.partition('_')[2]}.py"
    if not path.is_file():
        known = ", ".join(assignments(root)) or "none"
        raise ReleaseError(f"no source {path.relative_to(root)}; the exercises here are: {known}")
    return path


def made(root: Path, assignment: str) -> dict[str, Any] | None:
    """The notebook that was made from a source, as plain data; None where it is not this one.

    Raises:
        ReleaseError: if there is no such source, naming those there are.
    """
    path = source_path(root, assignment)
    try:
        notebook = json.loads(path.with_suffix(".ipynb").read_bytes())
        fresh = notebook["metadata"]["proctor"]["made_from"] == made_from(path, notebook)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not fresh:
        return None
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])  # a file may hold it as a list of lines
    return notebook


def made_from(path: Path, notebook: Any) -> str:
    """A hash of a source, of the code that makes a notebook of it, and of that notebook's cells."""
    maker = Path(__file__).with_name("release.py")
    cells = [
        [cell["cell_type"], "".join(cell["source"]), cell["metadata"]] for cell in notebook["cells"]
    ]
    parts = (path.read_bytes(), maker.read_bytes(), json.dumps(cells, sort_keys=True).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _is_source(path: Path) -> bool:
    return path.stem == path.parent.name.partition("_")[2]

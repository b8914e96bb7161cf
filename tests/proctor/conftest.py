"""A small exercise to grade, and submissions of it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from proctor import release
from proctor.exercise import Exercise
from proctor.limits import Limits, MiB
from proctor.terms import Terms

HERE = Path(__file__).parent
SMALL = Limits(
    cpu=0.7, wall=2.0, overruns=1, memory=384 * MiB, scratch=4 * MiB, file_size=2 * MiB,
    open_files=64, processes=24, frame=4 * MiB, head=256 * 1024,
)  # fmt: skip


class Mini:
    """The small exercise: its notebook, and what students hand in."""

    def __init__(self) -> None:
        self.source = release.read_source(HERE / "exercise" / "mini.py")
        self.exercise = Exercise.read(self.source, "00_mini")
        self.reference = {p.grade_id: p.source for p in self.exercise.answers}

    def submission(self, answers: dict[str, str] | None = None, own: dict | None = None) -> bytes:
        """A notebook with the reference's answers, but for those given, and a cell added."""
        notebook = nbformat.from_dict(self.source)
        notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
        for cell in notebook.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            part = self.exercise.by_name.get(name)
            if part is not None:
                cell.source = (answers or {}).get(
                    name, part.source if part.kind == "answer" else part.released
                )
        if own is not None:
            place = next(
                i
                for i, c in enumerate(notebook.cells)
                if c.metadata.get("nbgrader", {}).get("grade_id") == own["before"]
            )
            notebook.cells.insert(place, nbformat.v4.new_code_cell(own["source"]))
        return nbformat.writes(notebook).encode()

    def terms(self, level: str, limits: Limits = SMALL) -> Terms:
        """Terms with a secret of the tests."""
        return Terms(level, b"the secret of the tests", limits, {"engine": "under test"})


@pytest.fixture(scope="session")
def mini() -> Mini:
    """The small exercise."""
    return Mini()

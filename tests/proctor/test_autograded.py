"""Marked notebooks: formgrader lists them, and nbgrader reads the same marks out of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from proctor import autograded, gradebook, release
from proctor.exercise import Exercise
from proctor.records import Cell, CheckResult, Record

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus" / "intake"
SOURCE = release.read_source(CORPUS / "exercise.py")
CHECKS = (
    CheckResult("double__small", 1, 1),
    CheckResult("double__others", 0, 2, "failed", "the sign is lost\nfor x = -1", "x = -1"),
    CheckResult("half__even", 0.5, 1, "failed", "half of it"),
    CheckResult("half__odd", 0, 2, "timed out"),
)
CELLS = (
    Cell("", "import os"),
    Cell("double", "def double(x):\n    return abs(2 * x)", (), "hello\n"),
    Cell("", "double(<b>3)", (), "", "SyntaxError: invalid syntax"),
    Cell("half", "def half(x): return x / 2  # \ud800"),
)
RECORD = Record("00_numbers", "ada", "k", "s", "jail", {}, CHECKS, CELLS)


def test_nbgrader_reads_the_same_marks_out_of_a_marked_notebook():
    from nbgrader.utils import determine_grade, is_grade

    book = autograded.notebook(RECORD, SOURCE)
    nbformat.validate(book)
    marks = {
        cell.metadata.nbgrader.grade_id: determine_grade(cell)
        for cell in book.cells
        if is_grade(cell)
    }
    assert marks == {check.grade_id: (check.earned, check.points) for check in CHECKS}


def test_the_students_code_stands_among_the_exercises_own_cells():
    before = nbformat.writes(SOURCE)
    book = autograded.notebook(RECORD, SOURCE)
    assert nbformat.writes(SOURCE) == before
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    places = [code.index(cell.source) for cell in CELLS]
    assert places == sorted(places)
    hidden = next(cell for cell in SOURCE.cells if cell.id == "double__others").source
    assert code.index(CELLS[1].source) < code.index(CELLS[2].source) < code.index(hidden)
    assert not any("### BEGIN SOLUTION" in source for source in code)
    answer = next(cell for cell in book.cells if cell.id == "double")
    assert [output.text for output in answer.outputs] == ["hello\n"]


def test_a_submission_without_answers_makes_a_notebook_too():
    skipped = tuple(CheckResult(c.grade_id, 0, c.points, "skipped") for c in CHECKS)
    empty = Record("00_numbers", "eve", "k", "s", "jail", {}, skipped, reason="the file is empty")
    book = autograded.notebook(empty, SOURCE)
    nbformat.validate(book)
    assert [c.source for c in book.cells if c.id in ("double", "half")] == ["", ""]


def test_formgrader_lists_what_was_marked(tmp_path):
    from nbgrader.apps import NbGraderAPI

    config = release.course_config(ROOT, tmp_path)
    exercise = Exercise.read(SOURCE, "00_numbers")
    url, course = config.CourseDirectory.db_url, config.CourseDirectory.course_id
    place = tmp_path / "submitted" / "ada" / "00_numbers"
    place.mkdir(parents=True)
    (place / "timestamp.txt").write_text("2026-03-01 10:00:00 UTC")
    gradebook.write(url, course, exercise, [RECORD], {"ada": "2026-03-01 10:00:00 UTC"})
    folder = tmp_path / "autograded"
    path = autograded.write(folder, RECORD, SOURCE, "2026-03-01 10:00:00 UTC")
    assert path == folder / "ada" / "00_numbers" / "numbers.ipynb"
    (listed,) = NbGraderAPI(config=config).get_submissions("00_numbers")
    assert (listed["student"], listed["autograded"], listed["score"]) == ("ada", True, 1.5)
    assert listed["max_score"] == 6
    assert not listed["needs_manual_grade"]


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        autograded.write(tmp_path, replace(RECORD, student="../x"), SOURCE)

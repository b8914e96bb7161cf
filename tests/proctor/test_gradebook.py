"""What proctor writes into the gradebook, nbgrader's own tools read; what cannot be is named."""

from __future__ import annotations

import csv
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import nbformat
import pytest

from proctor import database, gradebook, release
from proctor.database import GradebookError, check
from proctor.exercise import Exercise
from proctor.gradebook import student_id, write
from proctor.records import Cell, CheckResult, Record

CORPUS = Path(__file__).resolve().parent / "corpus" / "intake"
COURSE = "lookback"


@cache
def numbers() -> Exercise:
    return Exercise.read(release.read_source(CORPUS / "exercise.py"), "00_numbers")


def record(student: str, *earned: float, **changes) -> Record:
    parts = numbers().checks
    checks = tuple(
        CheckResult(part.grade_id, got, part.points, "passed" if got else "failed")
        for part, got in zip(parts, earned, strict=True)
    )
    cells = (Cell("double", "def double(x): return 2 * x"), Cell("half", ""))
    values = {"assignment": "00_numbers", "isolation": "jail", "versions": {}, "seed": ""}
    values |= {"checks": checks, "cells": cells, "key": student}
    return Record(student=student, **values | changes)


CLASS = [record("ada", 1, 2, 1, 2), record("bob", 1, 0, 0.5, 0), record("eve", 0, 0, 0, 0)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A gradebook with the class in it, written once: nbgrader takes a second to make one."""
    path = tmp_path_factory.mktemp("gradebook") / "gradebook.db"
    done = write(f"sqlite:///{path}", COURSE, numbers(), CLASS, {"ada": "2026-03-01 10:00:00 UTC"})
    assert done.students == 3
    assert done.changed > 10
    return path


@pytest.fixture
def book(empty, tmp_path) -> str:
    """The address of a copy of it."""
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'gradebook.db')}"


def rows(url: str, query: str) -> list[tuple]:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


def dump(url: str) -> list[str]:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        lines = list(db.iterdump())
    db.close()
    return lines


def test_the_scores_are_what_nbgrader_itself_reads(book):
    from nbgrader.api import Gradebook

    with Gradebook(book, COURSE) as opened:
        assignment = opened.find_assignment("00_numbers")
        assert (assignment.max_score, assignment.course_id) == (6, COURSE)
        scores = {s.student.id: s.score for s in assignment.submissions}
        assert scores == {"ada": 6, "bob": 1.5, "eve": 0}
        bob = opened.find_submission_notebook("numbers", "00_numbers", "bob")
        assert bob.failed_tests
        assert not bob.needs_manual_grade
        ada = opened.find_submission("00_numbers", "ada")
        assert ada.timestamp.isoformat() == "2026-03-01T10:00:00"
        said = opened.find_comment("half", "numbers", "00_numbers", "ada")
        assert said.comment == "No response."
        assert opened.find_comment("double", "numbers", "00_numbers", "ada").comment is None
        # what formgrader lists
        listed = {d["student"]: d for d in opened.submission_dicts("00_numbers")}
        assert {name: d["score"] for name, d in listed.items()} == scores
        assert not listed["ada"]["needs_manual_grade"]
    assert rows(book, "SELECT id FROM course") == [(COURSE,)]


@pytest.mark.parametrize("what", ["database.load()", "database.check(sys.argv[1], sys.argv[2])"])
def test_a_grammar_of_web_addresses_is_not_loaded(book, what):
    code = f"import sys; from proctor import database; {what}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, book, COURSE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "nbgrader.api" in run.stdout.split()
    assert "rfc3987_syntax" not in run.stdout.split()


def test_nbgrader_exports_them(book, tmp_path):
    out = tmp_path / "grades.csv"
    call = ["export", "--to", str(out), "--db", book, f"--CourseDirectory.course_id={COURSE}"]
    home = {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "nbgrader", *call],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | home,
    )
    assert run.returncode == 0, run.stderr
    with out.open() as file:
        read = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {name: float(row["score"]) for name, row in read.items()} == {
        "ada": 6,
        "bob": 1.5,
        "eve": 0,
    }
    assert {row["max_score"] for row in read.values()} == {"6.0"}


def test_the_assignment_is_entered_as_nbgraders_release_step_enters_it(book, tmp_path):
    from nbgrader.preprocessors import ClearSolutions, ComputeChecksums, SaveCells

    other = f"sqlite:///{shutil.copy(book.removeprefix('sqlite:///'), tmp_path / 'other.db')}"
    with sqlite3.connect(tmp_path / "other.db") as db:
        tables = rows(book, "SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in set(tables) - {("course",), ("alembic_version",)}:
            db.execute(f"DELETE FROM {table}")
    db.close()
    from nbgrader.api import Gradebook

    with Gradebook(other, COURSE) as opened:
        opened.add_assignment("00_numbers")
    text = nbformat.writes(release.read_source(CORPUS / "exercise.py"))
    notebook = nbformat.reads(text, as_version=4)
    config = release.course_config(Path(__file__).parents[2], tmp_path)
    where = {"notebook": "numbers", "assignment": "00_numbers", "db_url": other}
    for step in (ClearSolutions, ComputeChecksums, SaveCells):
        notebook, _ = step(config=config).preprocess(notebook, {"nbgrader": where})
    for query in (
        "SELECT name, type FROM base_cell ORDER BY name, type",
        "SELECT name, cell_type, locked, source, checksum FROM source_cell ORDER BY name",
        "SELECT max_score, cell_type FROM grade_cells ORDER BY max_score",
        "SELECT name, kernelspec FROM notebook",
    ):
        assert rows(book, query) == rows(other, query)


def test_writing_the_same_again_changes_nothing(book):
    before = dump(book)
    done = write(book, COURSE, numbers(), CLASS, {"ada": "2026-03-01 10:00:00 UTC"})
    assert (done.students, done.changed) == (3, 0)
    assert dump(book) == before


def test_a_better_record_changes_one_score(book):
    done = write(book, COURSE, numbers(), [record("bob", 1, 2, 0.5, 0)])
    assert done.changed == 1
    from nbgrader.api import Gradebook

    with Gradebook(book, COURSE) as opened:
        assert opened.find_submission("00_numbers", "bob").score == 3.5
        assert opened.find_submission("00_numbers", "ada").score == 6


def test_a_class_is_written_whole_or_not_at_all(book, monkeypatch):
    before = dump(book)
    better = [record("ada", 0, 0, 0, 0), record("zoe", 1, 2, 1, 2)]
    write_one = gradebook._Writer.record

    def fail_on_zoe(self, each, timestamp):
        write_one(self, each, timestamp)
        if each.student == "zoe":
            raise OSError("the power went out")

    monkeypatch.setattr(gradebook._Writer, "record", fail_on_zoe)
    with pytest.raises(OSError, match="power"):
        write(book, COURSE, numbers(), better)
    assert dump(book) == before
    monkeypatch.undo()
    assert write(book, COURSE, numbers(), better).students == 2
    assert dump(book) != before


def test_a_score_given_by_hand_stands_and_is_looked_at_again(book):
    from nbgrader.api import Gradebook

    with Gradebook(book, COURSE) as opened:
        opened.find_grade("half__even", "numbers", "00_numbers", "bob").manual_score = 1
        opened.db.commit()
    done = write(book, COURSE, numbers(), CLASS[:2])
    assert done.changed == 0
    assert done.notes == ("bob: 1 scores given by hand stand",)
    write(book, COURSE, numbers(), [record("bob", 1, 0, 0, 0)])
    with Gradebook(book, COURSE) as opened:
        grade = opened.find_grade("half__even", "numbers", "00_numbers", "bob")
        assert (grade.score, grade.auto_score, grade.needs_manual_grade) == (1, 0, True)


def test_an_exercise_that_changed_is_brought_up_to_date(book):
    parts = list(numbers().parts)
    place = next(i for i, part in enumerate(parts) if part.grade_id == "double__others")
    parts[place] = replace(parts[place], grade_id="double__far", source="assert 1", points=5.0)
    changed = replace(numbers(), parts=tuple(parts))
    ada = record("ada", 1, 2, 1, 2)
    checks = tuple(
        CheckResult("double__far", 4, 5) if c.grade_id == "double__others" else c
        for c in ada.checks
    )
    write(book, COURSE, changed, [replace(ada, checks=checks)])
    from nbgrader.api import Gradebook

    with Gradebook(book, COURSE) as opened:
        assert opened.find_assignment("00_numbers").max_score == 9
        assert opened.find_submission("00_numbers", "ada").score == 8
        assert opened.find_submission("00_numbers", "bob").score == 1.5
    assert write(book, COURSE, changed, [replace(ada, checks=checks)]).changed == 0


def test_a_check_with_scores_by_hand_is_not_removed(book):
    from nbgrader.api import Gradebook

    with Gradebook(book, COURSE) as opened:
        opened.find_grade("half__odd", "numbers", "00_numbers", "bob").manual_score = 1
        opened.db.commit()
    parts = tuple(part for part in numbers().parts if part.grade_id != "half__odd")
    with pytest.raises(GradebookError, match="no check half__odd any more, but 1 scores"):
        write(book, COURSE, replace(numbers(), parts=parts), [])


def test_records_of_another_exercise_are_not_written(book):
    before = dump(book)
    with pytest.raises(ValueError, match="has not the 4 checks of 00_numbers"):
        write(book, COURSE, numbers(), [replace(CLASS[0], checks=CLASS[0].checks[:3])])
    with pytest.raises(ValueError, match="01_others"):
        write(book, COURSE, numbers(), [replace(CLASS[0], assignment="01_others")])
    assert dump(book) == before


def test_odd_names_and_dates_are_entered_as_one_plain_line(book):
    odd = os.fsdecode(b"a\n\xff\x1b[0m")
    done = write(book, COURSE, numbers(), [record(odd, 1, 2, 1, 2)], {odd: "yesterday"})
    assert student_id(odd) == r"a\x0a\udcff\x1b[0m"
    assert done.notes == (r"a\x0a\udcff\x1b[0m: 'yesterday' is no date; none was entered",)
    assert write(book, COURSE, numbers(), [record(odd, 1, 2, 1, 2)]).changed == 0


def test_a_locked_gradebook_is_named_and_recovers(book, monkeypatch):
    monkeypatch.setattr(database, "WAIT", 0.05)
    other = sqlite3.connect(book.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(GradebookError, match="locked: another program writes to it: close"):
        check(book, COURSE)
    other.execute("ROLLBACK")
    other.close()
    check(book, COURSE)


def test_a_gradebook_of_another_course_is_refused(book):
    with pytest.raises(GradebookError, match="belongs to the course 'lookback', and this is 'x'"):
        check(book, "x")


@pytest.mark.parametrize(
    ("revision", "mend"),
    [("50a4d84c131a", "nbgrader db upgrade"), ("ffffffffffff", "install the version of nbgrader")],
)
def test_a_gradebook_of_another_version_is_refused(book, revision, mend):
    with sqlite3.connect(book.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    db.close()
    with pytest.raises(GradebookError, match=mend):
        check(book, COURSE)


def test_a_read_only_gradebook_is_refused(book, monkeypatch):
    path = Path(book.removeprefix("sqlite:///"))
    access = os.access  # root may write everywhere
    for closed, said in [(path, f"chmod u\\+w {path}"), (path.parent, "the folder .*read-only")]:
        monkeypatch.setattr(
            database.os, "access", lambda p, mode, c=closed: Path(p) != c and access(p, mode)
        )
        with pytest.raises(GradebookError, match=said):
            check(book, COURSE)


def test_what_is_no_gradebook_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(GradebookError, match="another kind of file"):
        check(f"sqlite:///{text}", COURSE)
    table = tmp_path / "table.db"
    with sqlite3.connect(table) as db:
        db.execute("CREATE TABLE bills (amount)")
    db.close()
    with pytest.raises(GradebookError, match="no gradebook of nbgrader"):
        check(f"sqlite:///{table}", COURSE)
    assert rows(f"sqlite:///{table}", "SELECT name FROM sqlite_master") == [("bills",)]


def test_a_missing_gradebook_is_fine_where_it_can_be_made(tmp_path):
    check(f"sqlite:///{tmp_path / 'new.db'}", COURSE)
    assert not (tmp_path / "new.db").exists()
    with pytest.raises(GradebookError, match="there is no folder"):
        check(f"sqlite:///{tmp_path / 'nowhere' / 'new.db'}", COURSE)
    with pytest.raises(GradebookError, match="is no address of a database"):
        check("gradebook.db", COURSE)


def test_a_database_out_of_reach_is_named_without_its_password():
    with pytest.raises(GradebookError) as caught:
        check("postgresql://teacher:secret@localhost:1/grades", COURSE)
    assert "secret" not in str(caught.value)
    assert "records are safe" in str(caught.value) or "install the driver" in str(caught.value)

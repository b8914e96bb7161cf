"""The notebook beside a source is read while it is the one made from it, and never otherwise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proctor import release, sources
from proctor.exercise import Exercise

HERE = Path(__file__).parent


@pytest.fixture
def course(tmp_path) -> Path:
    """A course with the small exercise, its notebook made."""
    (tmp_path / "solutions" / "00_mini").mkdir(parents=True)
    shutil.copy(HERE / "exercise" / "mini.py", tmp_path / "solutions" / "00_mini" / "mini.py")
    assert sources.made(tmp_path, "00_mini") is None
    release.write_source(tmp_path, "00_mini")
    return tmp_path


def test_the_made_notebook_is_the_exercise_of_its_source(course, mini):
    assert Exercise.read(sources.made(course, "00_mini"), "00_mini") == mini.exercise


@pytest.mark.parametrize("name", ["mini.py", "mini.ipynb"])
def test_a_change_in_either_file_makes_it_be_read_from_the_source(course, name):
    path = course / "solutions" / "00_mini" / name
    path.write_text(path.read_text("utf-8").replace("only the examiner knows", "changed"), "utf-8")
    assert sources.made(course, "00_mini") is None


def test_a_notebook_of_which_nothing_is_known_is_not_read(course):
    path = course / "solutions" / "00_mini" / "mini.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    del notebook["metadata"]["proctor"]
    path.write_text(json.dumps(notebook), "utf-8")
    assert sources.made(course, "00_mini") is None


def test_the_driver_needs_neither_torch_nor_a_notebook_library(course):
    program = (
        "import sys; from pathlib import Path; from proctor.course import Course\n"
        "Course(Path(sys.argv[1]), Path()).exercise('00_mini')\n"
        "print({'torch', 'nbformat', 'jupytext'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(course)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"

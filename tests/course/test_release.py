"""Releases: made from the sources, stable, and without an answer in them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from proctor import release

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENTS = release.assignments(ROOT)
MINI = '''# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Mini

# %% setup=true
import math

# %% [markdown] task="double" difficulty=1 minutes=3
# ## Double
#
# Write it.

# %% answer="double"
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% check="double__two" points=2
assert double(2) == 4, "is it twice the number?"

# %% check="double__hidden_others" points=1
# Hidden: other numbers
### BEGIN HIDDEN TESTS
assert double(math.pi) == 2 * math.pi, "is it twice the number?"
### END HIDDEN TESTS
'''


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """A course with one small exercise, under git."""
    folder = tmp_path / "solutions" / "90_mini"
    folder.mkdir(parents=True)
    (folder / "mini.py").write_text(MINI)
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_committed_release_is_the_one_made_from_its_source(assignment):
    committed = nbformat.read(release.released_path(ROOT, assignment), as_version=4)
    made = nbformat.reads(release.make_release(ROOT, assignment), as_version=4)
    differing = [
        theirs.id
        for theirs, ours in zip(committed.cells, made.cells, strict=False)
        if theirs != ours
    ]
    assert committed == made, f"edited by hand or out of date: {differing}; run `make exercises`"


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_a_release_holds_no_answer_and_no_hidden_test(assignment):
    source = release.source_path(ROOT, assignment).read_text("utf-8")
    released = release.released_path(ROOT, assignment).read_text("utf-8")
    assert "BEGIN SOLUTION" not in released
    assert "HIDDEN TESTS" not in released
    public = {cell.source for cell in nbformat.reads(released, as_version=4).cells}
    shown = {line.strip() for text in public for line in text.splitlines()}
    for line in secret_lines(source):
        assert line not in shown, f"the release shows a line of an answer or hidden test: {line}"


def secret_lines(source: str) -> list[str]:
    """Lines that stand in an answer or a hidden test and nowhere else in the source."""
    secret: list[str] = []
    open_lines: set[str] = set()
    inside = False
    for line in source.splitlines():
        if line.strip() in ("### BEGIN SOLUTION", "### BEGIN HIDDEN TESTS"):
            inside = True
        elif line.strip() in ("### END SOLUTION", "### END HIDDEN TESTS"):
            inside = False
        elif inside:
            secret.append(line.strip())
        else:
            open_lines.add(line.strip().removeprefix("# "))
    return [line for line in secret if len(line) > 12 and line not in open_lines]


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_an_exercise_keeps_to_the_size_that_students_were_promised(assignment):
    notebook = release.read_source(release.source_path(ROOT, assignment))
    tasks = [c.metadata["proctor"] for c in notebook.cells if "proctor" in c.metadata]
    checks = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert 6 <= len(tasks) <= 10
    assert 60 <= sum(task["minutes"] for task in tasks) <= 120
    assert 20 <= sum(cell.metadata.nbgrader.points for cell in checks) <= 40
    for task in tasks:
        own = [c for c in checks if c.metadata.nbgrader.grade_id.startswith(f"{task['task']}__")]
        hidden = [c for c in own if "BEGIN HIDDEN TESTS" in c.source]
        assert len(hidden) >= 2, f"{task['task']} has {len(hidden)} hidden checks"
        assert len(own) - len(hidden) >= 2, f"{task['task']} has too few visible checks"


def test_exercises_hold_released_notebooks_and_nothing_else():
    command = ["git", "ls-files", "exercises"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {str(release.released_path(ROOT, name).relative_to(ROOT)) for name in ASSIGNMENTS}
    assert set(listed.split()) == wanted


def test_a_release_counts_points_and_minutes_and_clears_answers(mini):
    path, kept = release.release(mini, "90_mini")
    notebook = nbformat.read(path, as_version=4)
    by_id = {cell.id: cell for cell in notebook.cells}
    assert kept is None
    assert "3 points · about 3 minutes" in notebook.cells[0].source
    assert "●○○ · 3 minutes · 3 points" in by_id["task-double"].source
    assert "return 2 * x" not in by_id["double"].source
    assert '"""Twice x."""' in by_id["double"].source
    assert by_id["double__hidden_others"].source == "# Hidden: other numbers"
    assert by_id["setup"].metadata.nbgrader.locked
    assert by_id["double__two"].metadata.nbgrader.points == 2


def test_releasing_twice_gives_the_same_bytes(mini):
    path, _ = release.release(mini, "90_mini")
    first, touched = path.read_bytes(), path.stat().st_mtime_ns
    assert release.is_fresh(mini, "90_mini")
    release.release(mini, "90_mini")
    assert path.read_bytes() == first
    assert path.stat().st_mtime_ns == touched


def test_a_changed_source_is_released_again_without_keeping_the_old_release(mini):
    path, _ = release.release(mini, "90_mini")
    source = mini / "solutions" / "90_mini" / "mini.py"
    source.write_text(MINI.replace("Write it.", "Write it now."))
    assert not release.is_fresh(mini, "90_mini")
    _, kept = release.release(mini, "90_mini")
    assert kept is None
    assert "Write it now." in path.read_text()


def test_a_notebook_edited_in_place_is_kept_beside_the_new_release(mini):
    path, _ = release.release(mini, "90_mini")
    mine = path.read_text().replace("write your answer here", "my evening of work")
    path.write_text(mine)
    assert not release.is_fresh(mini, "90_mini")
    again, kept = release.release(mini, "90_mini")
    assert kept.read_text() == mine
    assert "my evening of work" not in again.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('check="double__two"', 'check="triple__two"'), "'triple__two' belongs to no task above"),
        (('check="double__two" points=2', 'check="double__two"'), "needs points"),
        (("difficulty=1", "difficulty=4"), "needs difficulty"),
        (('check="double__two"', 'check="double__hidden_others"'), "is there twice"),
        (('# %% answer="double"', "# %%"), "lacks its answer or its checks"),
        (('answer="double"', 'answer="double" setup=true'), "a cell is one of"),
    ],
)
def test_a_source_that_cannot_be_released_says_where_and_why(mini, change, message):
    source = mini / "solutions" / "90_mini" / "mini.py"
    source.write_text(MINI.replace(*change))
    with pytest.raises(release.ReleaseError, match=message):
        release.read_source(source)


def test_a_check_that_breaks_the_contract_is_refused_with_its_line(mini):
    source = mini / "solutions" / "90_mini" / "mini.py"
    peeking = "import inspect\nassert inspect.getsource(double)"
    source.write_text(MINI.replace('assert double(2) == 4, "is it twice the number?"', peeking))
    with pytest.raises(release.ReleaseError, match=r"double__two, line \d"):
        release.make_release(mini, "90_mini")


def test_an_unknown_exercise_is_named_with_the_known_ones(mini):
    with pytest.raises(release.ReleaseError, match="the exercises here are: 90_mini"):
        release.source_path(mini, "91_maxi")

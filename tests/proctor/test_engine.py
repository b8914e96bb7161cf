"""Workers and their records: mangled files, a flat memory, and the scores of plain nbgrader."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

import processes
from proctor import doctor, forkserver, jail, plain, release, worker
from proctor.engine import Engine, EngineError
from proctor.exercise import Exercise
from proctor.grading import Grader
from proctor.limits import MiB
from proctor.terms import banned_in

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
INTAKE = HERE / "corpus" / "intake"
EXPECTED = tomllib.loads((INTAKE / "expected.toml").read_text("utf-8"))
LEVEL = next((level for level in ("namespaces", "landlock") if level in doctor.offered()), "limits")


@pytest.fixture(scope="module")
def mangled(mini) -> dict[str, tuple[float, ...]]:
    """Points of each check for every file of the intake corpus."""
    source = release.read_source(INTAKE / "exercise.py")
    exercise = Exercise.read(source, "00_numbers")
    work = {name: (INTAKE / f"{name}.submission").read_bytes() for name in EXPECTED}
    with Engine(LEVEL, jobs=2) as engine:
        records = engine.grade(exercise, work, mini.terms(LEVEL))
        return {r.student: tuple(c.earned for c in r.checks) for r in records}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_mangled_file_earns_what_the_work_in_it_is_worth(mangled, name):
    wanted = EXPECTED[name].get("points", [0, 0, 0, 0])
    assert mangled[name] == tuple(wanted), EXPECTED[name]["about"]


@pytest.fixture
def grader(mini) -> Iterator[Grader]:
    """A grader in this process."""
    forkserver.warm_up()
    server = forkserver.ForkServer(banned_in(mini.exercise))
    yield Grader(mini.exercise, server, mini.terms(LEVEL))
    server.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.stress
def test_a_worker_stays_small_and_flat_over_a_thousand_submissions(mini, grader):
    data = mini.submission()
    sizes = []
    for number in range(1000):
        grader.grade("student", data)
        if number % 100 == 99:
            sizes.append([resident(pid) for pid in (os.getpid(), grader.server.pid)])
    for each in zip(*sizes, strict=True):  # the examiner, and the process that forks
        assert max(each) < 2**30
        assert each[-1] - each[1] < 16 * 2**20, sizes


def test_an_exercise_whose_setup_fails_stops_with_the_reason(mini):
    locked = replace(mini.exercise.locked[0], source="import torch\nraise OSError('no such data')")
    broken = replace(mini.exercise, parts=(locked, *mini.exercise.parts[1:]))
    with (
        Engine("limits", jobs=1) as engine,
        pytest.raises(EngineError, match="no worker starts at level limits: OSError: no such data"),
    ):
        list(engine.grade(broken, {"ann": mini.submission()}, mini.terms("limits")))


class Frail(Engine):
    """Its worker is killed as soon as it has got eve's submission, so many times."""

    kills = 0

    def _give(self, each, student, submissions):
        super()._give(each, student, submissions)
        if student == "eve" and self.kills:
            self.kills -= 1
            while each.pid is None:
                for other, reply in self._replies(60.0):
                    other.pid = reply["ready"]
            self._zygote.end(each.pid)


@pytest.mark.parametrize(("kills", "earned"), [(5, 10), (99, 0)])
def test_a_submission_whose_workers_are_killed_is_tried_again_and_ends_no_batch(
    mini, kills, earned
):
    work = {"eve": mini.submission(), "ann": mini.submission()}
    with Frail("limits", jobs=1) as engine:
        zygote, engine.kills = engine._zygote, kills
        found = {r.student: r for r in engine.grade(mini.exercise, work, mini.terms("limits"))}
        assert engine._zygote is zygote, "another worker needs no torch loaded again"
    assert found["ann"].earned == 10
    assert found["eve"].earned == earned
    assert ("grading stopped 12 times" in found["eve"].reason) == (kills > 5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_a_check_that_wants_too_much_memory_fails_and_takes_no_worker_with_it(mini):
    part = mini.exercise.by_name["soft_rows__numbers"]
    greedy = f"kept = torch.empty({worker.MEMORY + 256 * MiB}, dtype=torch.uint8)\n{part.source}"
    parts = [replace(p, source=greedy) if p is part else p for p in mini.exercise.parts]
    with Engine(LEVEL) as engine:
        exercise = replace(mini.exercise, parts=tuple(parts))
        (record,) = engine.grade(exercise, {"ann": mini.submission()}, mini.terms(LEVEL))
    assert record.earned == 10 - part.points
    assert "memory" in record.checks[0].message


@pytest.mark.parametrize("level", ["jail", "namespaces"])
def test_an_engine_that_is_stopped_at_once_leaves_no_process(level):
    if level not in doctor.offered():
        pytest.skip(f"this machine does not offer the level {level}")
    for pause in (0.0, 0.003, 0.01, 0.03):
        with Engine(level, jobs=2) as engine:
            group = engine._zygote.process.pid
            time.sleep(pause)
        assert processes.group_gone(group), processes.in_group(group)


def test_a_jail_shows_nothing_of_the_course():
    shown = [Path(path) for path in jail.library_path()]
    assert all((path / "proctor").is_dir() for path in shown)
    assert not any(path == ROOT or (path / "solutions").exists() for path in shown)


@pytest.mark.parametrize("level", ["jail", "namespaces"])
def test_an_interpreter_behind_symbolic_links_runs_behind_the_walls(level, tmp_path):
    if level not in doctor.offered():
        pytest.skip(f"this machine does not offer the level {level}")
    (tmp_path / "middle").symlink_to(sys.prefix)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".venv").symlink_to(Path("..") / "middle")
    python = tmp_path / "folder" / ".venv" / "bin" / "python"
    grades = f"""
import sys
sys.path[:0] = {[str(ROOT / "src"), str(HERE)]!r}
from conftest import Mini
from proctor.engine import Engine
from proctor import doctor, walls
assert {level!r} in doctor.offered()
assert sys.prefix == {str(python.parent.parent)!r}
mini = Mini()
with Engine({level!r}) as engine:
    (record,) = engine.grade(mini.exercise, {{"ann": mini.submission()}}, mini.terms({level!r}))
print(record.earned, record.reason)
"""
    ran = subprocess.run([python, "-c", grades], capture_output=True, text=True)
    assert ran.stdout.split() == ["10.0"], ran.stdout + ran.stderr


def test_equal_submissions_of_two_students_are_told_apart_and_marked_alike(mini, grader):
    one, two = (grader.grade(name, mini.submission()) for name in ("one", "two"))
    assert one.key != two.key
    assert one.checks == two.checks
    assert one.to_bytes() == grader.grade("one", mini.submission()).to_bytes()


def test_plain_nbgrader_gives_honest_work_the_same_scores(mini, grader, tmp_path):
    wrong = "def draw(p, n, generator=None):\n    return torch.zeros(n).long()\n"
    work = {
        "right": mini.submission(),
        "wrong": mini.submission({"draw": wrong}),
        "nothing": mini.submission({p.grade_id: p.released for p in mini.exercise.answers}),
    }
    (tmp_path / "solutions" / "00_mini").mkdir(parents=True)
    nbformat.write(mini.source, tmp_path / "solutions" / "00_mini" / "mini.ipynb")
    for student, data in work.items():
        folder = tmp_path / "submitted" / student / "00_mini"
        folder.mkdir(parents=True)
        (folder / "mini.ipynb").write_bytes(data)
    subprocess.run(
        [sys.executable, "-m", "proctor.plain", str(ROOT), str(tmp_path), "00_mini"],
        check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for student, data in work.items():
        graded = tmp_path / "autograded" / student / "00_mini" / "mini.ipynb"
        theirs = {name: c.earned for name, c in plain._checks(graded).items()}
        ours = {c.grade_id: c.earned for c in grader.grade(student, data).checks}
        assert ours == theirs, student

"""Killed anywhere, at any moment, a run goes on where it was, and ends with the same grades."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import processes
from proctor import doctor

HERE = Path(__file__).parent
DRIVER = """
import json, sys
from pathlib import Path
from proctor import course as running
from proctor.course import Course, grade, publish
running.versions = lambda exercise: {"engine": "under test"}
root = Path(sys.argv[1])
course = Course(root, root / "submitted")
outcome = grade(course, "00_mini", jobs=int(sys.argv[2]), isolation=sys.argv[3])
publish(course, outcome, pages=False)
earned = {student: record.earned for student, record in outcome.records.items()}
print(json.dumps({"fresh": outcome.fresh, "earned": earned}))
"""
WRONG = "def draw(p, n, generator=None):\n    return torch.zeros(n).long()\n"
LEVEL = "namespaces"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or LEVEL not in doctor.offered(),
    reason=f"this machine does not offer the level {LEVEL}",
)


def make_course(root: Path, mini, students: int) -> Path:
    """A course with the small exercise and some submissions, right and wrong ones."""
    (root / "solutions" / "00_mini").mkdir(parents=True)
    shutil.copy(HERE / "exercise" / "mini.py", root / "solutions" / "00_mini" / "mini.py")
    (root / ".proctor").mkdir()
    secret = root / ".proctor" / "secret"
    secret.write_bytes(b"the secret of this test, and no other")
    secret.chmod(0o600)
    for number in range(students):
        answers = {"draw": WRONG} if number % 3 == 1 else {}
        folder = root / "submitted" / f"student{number:02}" / "00_mini"
        folder.mkdir(parents=True)
        (folder / "mini.ipynb").write_bytes(mini.submission(answers))
    return root


def start(root: Path, jobs: int = 2) -> subprocess.Popen:
    """A driver over the course, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(root), str(jobs), LEVEL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(driver: subprocess.Popen) -> dict:
    """What a driver that ran to its end found."""
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err.decode()[-2000:]
    return json.loads(out.splitlines()[-1])


def records(root: Path) -> dict[str, bytes]:
    """Every record by its name."""
    found = (root / ".proctor" / "records" / "00_mini").glob("*.json")
    return {path.name: path.read_bytes() for path in found}


def victim(driver: int, which: str) -> int | None:
    """The driver, a worker, or a worker's fork server."""
    if which == "driver":
        return driver
    workers = processes.children(driver)
    if which == "worker" or not workers:
        return random.choice(workers) if workers else None
    servers = [s for w in workers for s in processes.children(w)]
    return random.choice(servers) if servers else None


@pytest.fixture(scope="module")
def undisturbed(mini, tmp_path_factory) -> dict[str, bytes]:
    """The records of a run that nothing happened to."""
    root = make_course(tmp_path_factory.mktemp("undisturbed"), mini, STUDENTS)
    found = finish(start(root))
    assert len(found["fresh"]) == STUDENTS
    assert found["earned"]["student01"] < found["earned"]["student00"] == 10
    return records(root)


STUDENTS = 12


def disturb(root: Path, which: str, seed: int, kept: dict[str, bytes]) -> None:
    """Kill something during a run, then run again until every grade is there."""
    random.seed(seed)
    driver = start(root)
    target = random.randint(0, STUDENTS - 2)
    while len(records(root)) < target and driver.poll() is None:
        time.sleep(0.01)
    time.sleep(random.random() * 0.1)
    everything = processes.below(driver.pid)
    chosen = victim(driver.pid, which)
    if chosen is not None:
        os.kill(chosen, signal.SIGKILL)
    if which == "driver":
        driver.communicate()
        assert processes.gone(everything), "killing the driver left a process behind"
        before = records(root)
        found = finish(start(root))
        assert len(found["fresh"]) == STUDENTS - len(before), "a submission was graded twice"
    else:
        found = finish(driver)
        assert sorted(found["fresh"]) == sorted(set(found["fresh"])), "graded twice"
    assert len(found["earned"]) == STUDENTS
    assert records(root) == kept


@pytest.mark.parametrize("which", ["driver", "worker", "forkserver"])
def test_a_run_that_is_killed_goes_on_and_ends_the_same(mini, tmp_path, undisturbed, which):
    disturb(make_course(tmp_path, mini, STUDENTS), which, 1, undisturbed)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(20))
def test_kills_at_random_moments_change_no_grade(mini, tmp_path, undisturbed, seed):
    which = ("driver", "worker", "forkserver")[seed % 3]
    disturb(make_course(tmp_path, mini, STUDENTS), which, seed, undisturbed)


@pytest.mark.parametrize("jobs", [1, pytest.param(8, marks=pytest.mark.stress)])
def test_grades_are_the_same_whatever_the_number_of_workers(mini, tmp_path, undisturbed, jobs):
    root = make_course(tmp_path, mini, STUDENTS)
    finish(start(root, jobs))
    assert records(root) == undisturbed


@pytest.mark.stress
def test_grades_are_the_same_on_a_busy_machine(mini, tmp_path, undisturbed):
    root = make_course(tmp_path, mini, STUDENTS)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        finish(start(root))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert records(root) == undisturbed

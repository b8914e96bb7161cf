"""Killed anywhere, at any moment, a run goes on where it was, and ends with the same grades."""

from __future__ import annotations

import contextlib
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
    """The driver, its zygote, a worker of that, or a worker's fork server."""
    found = [driver]
    for _ in range(["driver", "zygote", "worker", "forkserver"].index(which)):
        found = [child for each in found for child in processes.children(each)]
    return random.choice(found) if found else None


def undisturbed_run(root: Path, mini, students: int) -> dict[str, bytes]:
    """The records of a run that nothing happened to."""
    found = finish(start(make_course(root, mini, students)))
    assert len(found["fresh"]) == students
    assert found["earned"]["student01"] < found["earned"]["student00"] == 10
    return records(root)


@pytest.fixture(scope="module")
def undisturbed(mini, tmp_path_factory) -> dict[str, bytes]:
    """The records of a small class."""
    return undisturbed_run(tmp_path_factory.mktemp("undisturbed"), mini, STUDENTS)


STUDENTS = 12


def disturb(root: Path, students: int, victims: list[str], kept: dict[str, bytes]) -> None:
    """Kill something at random moments of a run, go on, and see that every grade is there once."""
    moments = sorted(random.randint(0, students - 4) for _ in victims)
    known, driver = 0, start(root)
    for moment, which in zip(moments, victims, strict=True):
        while len(records(root)) < moment and driver.poll() is None:
            time.sleep(0.01)
        time.sleep(random.random() * 0.3)
        everything = processes.below(driver.pid)
        chosen = victim(driver.pid, which)
        if chosen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chosen, signal.SIGKILL)
        if which == "driver":
            driver.communicate()
            assert processes.gone(everything), "killing the driver left a process behind"
            known, driver = len(records(root)), start(root)
    found = finish(driver)
    assert len(set(found["fresh"])) == len(found["fresh"]) == students - known, "graded twice"
    assert len(found["earned"]) == students
    assert records(root) == kept


@pytest.mark.parametrize("which", ["driver", "zygote", "worker", "forkserver"])
def test_a_run_that_is_killed_goes_on_and_ends_the_same(mini, tmp_path, undisturbed, which):
    random.seed(1)
    disturb(make_course(tmp_path, mini, STUDENTS), STUDENTS, [which], undisturbed)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(2))
def test_twenty_kills_in_a_run_of_sixty_change_no_grade(mini, tmp_path, seed):
    random.seed(seed)
    kept = undisturbed_run(tmp_path / "undisturbed", mini, 60)
    victims = random.choices(["driver", "zygote", "worker", "forkserver"], k=20)
    disturb(make_course(tmp_path / "disturbed", mini, 60), 60, victims, kept)


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

"""Hostile submissions: each question gets the grade that it deserves, and nothing is left behind.

One file a case in ``corpus/``: what it tries, the points that each task must get, and the answers
that differ from the reference.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import processes
from proctor import doctor
from proctor.engine import Engine
from proctor.records import Record

CASES = {
    p.stem: tomllib.loads(p.read_text("utf-8"))
    for p in sorted((Path(__file__).parent / "corpus").glob("*.toml"))
}
LEVELS = ("jail", "namespaces", "landlock")
# one worker marks it, once a level
pytestmark = pytest.mark.xdist_group("corpus")
# What the corpus writes where it can; none of it may be seen from outside.
WRITTEN = ("owned", "weights.pt", "torch.py", "sitecustomize.py", "here", "0")


def written() -> set[str]:
    """Files of the corpus in the folders that every process may write to."""
    places = [Path(folder) / name for folder in ("/tmp", "/dev/shm") for name in WRITTEN]
    return {str(place) for place in places if place.exists()}


@pytest.fixture(scope="module")
def marked(mini) -> Callable[[str], dict[str, Record]]:
    """Records of the whole corpus at a level, made once; afterwards nothing is left."""
    made: dict[str, dict[str, Record]] = {}

    def at(level: str) -> dict[str, Record]:
        if level not in doctor.offered():
            pytest.skip(f"this machine does not offer the level {level}")
        if level not in made:
            before, files = set(processes.below(os.getpid())), written()
            work = {
                name: mini.submission(case.get("answers"), case.get("own"))
                for name, case in CASES.items()
            }
            with Engine(level, jobs=2) as engine:
                terms = mini.terms(level)
                made[level] = {r.student: r for r in engine.grade(mini.exercise, work, terms)}
            left = set(processes.below(os.getpid())) - before
            assert processes.gone(left), f"processes were left behind: {left}"
            assert written() <= files, "a file was written outside of the scratch folder"
        return made[level]

    return at


def test_the_corpus_is_large_enough():
    assert len(CASES) >= 60
    assert all(set(case["earned"]) == {"soft_rows", "Mixer", "draw"} for case in CASES.values())


@pytest.mark.skipif(not os.path.isdir("/proc/self/ns"), reason="needs Linux")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_every_question_gets_the_grade_it_deserves(marked, level, name):
    record = marked(level)[name]
    earned = {task: sum(c.earned for c in checks) for task, checks in record.tasks().items()}
    wanted = CASES[name]["earned"]
    told = "\n".join(f"{c.grade_id}: {c.outcome} {c.message[:200]}" for c in record.checks)
    assert earned == wanted, f"{CASES[name]['says']}\n{told}\n{record.integrity}"

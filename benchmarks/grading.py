"""Proctor against plain ``nbgrader autograde`` on the same submissions, one after the other.

Writes ``benchmarks/results/grading.json``: submissions per second of both from start to end
(loading torch and writing the gradebook counted), their CPU seconds for each submission, scores
compared one by one, and where proctor's time goes. nbgrader takes about four seconds a submission.

    OMP_NUM_THREADS=1 python benchmarks/grading.py --count 40 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from rich.console import Console

from lookback import measure
from proctor import kill_matrix, plain, release, store

ROOT = Path(__file__).resolve().parent.parent
OURS = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from proctor import gradebook
from proctor.course import Course, grade, publish
root = Path(sys.argv[1])
course = Course(root, root / "submitted")
marks = []
outcome = grade(course, sys.argv[2], jobs=int(sys.argv[3]), isolation=sys.argv[4] or None,
                told=lambda done, total: marks.append(time.perf_counter() - start))
publish(course, outcome, pages=False)
graded = time.perf_counter() - start
records = outcome.records.values()
gradebook.write(f"sqlite:///{root / 'gradebook.db'}", "lookback", outcome.exercise, records)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "level": outcome.level,
    "until_first": marks[1],
    "between": (marks[-1] - marks[1]) / max(1, len(marks) - 2),
    "grading": graded,
    "gradebook": time.perf_counter() - start - graded,
    "workers_cpu": children.ru_utime + children.ru_stime,
    "largest_process_mib": children.ru_maxrss / 1024,
    "scores": {s: {c.grade_id: c.earned for c in r.checks} for s, r in outcome.records.items()},
}))
"""


@dataclass(frozen=True)
class Run:
    """One side's way through all submissions."""

    seconds: float
    cpu: float
    scores: dict[str, dict[str, float]]
    detail: dict


def submissions(assignment: str, count: int) -> dict[str, str]:
    """Honest work: the reference, right answers unlike it, and misconceptions in turn."""
    every = kill_matrix.submissions(ROOT, assignment)
    right = [n for n in every if n.startswith("right--")]
    wrong = [n for n in every if n.startswith("wrong--")]
    mixed = [n for pair in zip(right, wrong, strict=False) for n in pair]
    names = ["reference", *mixed, *wrong[len(right) :]]
    return {f"student{i:03}": every[names[i % len(names)]] for i in range(count)}


def course_of(folder: Path, assignment: str, work: dict[str, str]) -> None:
    """A course folder with these submissions, as nbgrader lays it out."""
    source = release.write_source(ROOT, assignment)
    shutil.copytree(source.parent, folder / "solutions" / assignment)
    for student, text in work.items():
        place = folder / "submitted" / student / assignment
        place.mkdir(parents=True)
        (place / source.name).write_text(text, "utf-8")


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, CPU seconds and output of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise SystemExit(run.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, run.stdout


def ours(assignment: str, work: dict[str, str], jobs: int, level: str) -> Run:
    """Proctor over all submissions, in a course that has seen none."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        course_of(Path(folder), assignment, work)
        store.course_secret(Path(folder) / ".proctor")
        command = [sys.executable, "-c", OURS, folder, assignment, str(jobs), level]
        seconds, cpu, output = timed(command)
    detail = json.loads(output.splitlines()[-1])
    return Run(seconds, cpu, detail.pop("scores"), detail)


def nbgraders(assignment: str, work: dict[str, str]) -> Run:
    """Plain nbgrader over all submissions, in one process, one after the other."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        course = Path(folder)
        course_of(course, assignment, work)
        command = [sys.executable, "-m", "proctor.plain", str(ROOT), folder, assignment]
        seconds, cpu, _ = timed(command)
        name = release.source_path(ROOT, assignment).with_suffix(".ipynb").name
        scores = {
            student: {
                check: found.earned
                for check, found in plain._checks(
                    course / "autograded" / student / assignment / name
                ).items()
            }
            for student in work
        }
    return Run(seconds, cpu, scores, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--assignment", default="05_self_attention")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--isolation", default="", help="level; the strongest by default")
    options = parser.parse_args()
    work = submissions(options.assignment, options.count)
    console = Console(highlight=False)
    mine = ours(options.assignment, work, options.jobs, options.isolation)
    console.print(f"proctor: {options.count / mine.seconds:.2f} submissions a second")
    peer = nbgraders(options.assignment, work)
    console.print(f"nbgrader: {options.count / peer.seconds:.2f} submissions a second")
    differing = sum(
        mine.scores[s].get(c) != earned
        for s, marks in peer.scores.items()
        for c, earned in marks.items()
    )
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    row = {
        "name": f"grading {options.count} submissions of {options.assignment}",
        "ours": f"proctor, {options.jobs} workers",
        "peer": "nbgrader autograde",
        "ratio": peer.seconds / mine.seconds,
        "ours_per_second": options.count / mine.seconds,
        "peer_per_second": options.count / peer.seconds,
        "ours_cpu_each": mine.cpu / options.count,
        "peer_cpu_each": peer.cpu / options.count,
        "error": differing,
        "detail": mine.detail,
        "device": measure.device_name("cpu"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit,
        "date": date.today().isoformat(),
    }
    path = ROOT / "benchmarks" / "results" / "grading.json"
    path.write_text(json.dumps([row], indent=1) + "\n", "utf-8")
    console.print(f"{row['ratio']:.1f} times nbgrader's; {differing} scores differ; {path.name}")


if __name__ == "__main__":
    main()

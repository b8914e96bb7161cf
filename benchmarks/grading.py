"""Proctor against plain ``nbgrader autograde`` on the same submissions: ours, theirs, ours.

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
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from rich.console import Console

from lookback import measure
from proctor import kill_matrix, plain, release, store

ROOT = Path(__file__).resolve().parent.parent
# what `proctor grade` does, without the pages that nbgrader's autograding does not write either
OURS = """
import json, resource, sys, threading, time
from pathlib import Path
start = time.perf_counter()
from proctor import gradebook
from proctor.course import Course, grade, publish
root = Path(sys.argv[1])
course = Course(root, root / "submitted")
loader = [threading.Thread(target=gradebook.load, daemon=True)]
marks = []
def told(done, total):
    marks.append(time.perf_counter() - start)
    while loader:
        loader.pop().start()
level = sys.argv[4] or None
outcome = grade(course, sys.argv[2], jobs=int(sys.argv[3]), isolation=level, told=told)
publish(course, outcome, pages=False)
graded = time.perf_counter() - start
records = outcome.records.values()
gradebook.write(f"sqlite:///{root / 'gradebook.db'}", "lookback", outcome.exercise, records)
written = time.perf_counter() - start
mine = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "level": outcome.level,
    "seconds_until_first": marks[1],
    "seconds_between": (marks[-1] - marks[1]) / max(1, len(marks) - 2),
    "seconds_gradebook": written - graded,
    "cpu": {"driver": mine.ru_utime + mine.ru_stime} | outcome.spent,
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


def timed(command: list[str], may_fail: bool = False) -> tuple[float, float, str]:
    """Seconds, CPU seconds and output of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if run.returncode and not may_fail:
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
        seconds, _, output = timed(command)
    detail = json.loads(output.splitlines()[-1])
    # a jail's processes are not this one's children: they say themselves what they have used
    return Run(seconds, sum(detail["cpu"].values()), detail.pop("scores"), detail)


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


def shares(runs: list[Run], count: int) -> dict[str, float]:
    """Where the time goes: seconds at both ends, and CPU milliseconds for each submission."""
    found = {
        name: mean(run.detail[name] for run in runs)
        for name in ("seconds_until_first", "seconds_between", "seconds_gradebook")
    }
    for name in runs[0].detail["cpu"]:
        used = mean(run.detail["cpu"][name] for run in runs)
        found[f"cpu_ms_{name}"] = 1000 * used / count
    return found


def checking(assignment: str, repeats: int = 5) -> dict:
    """`proctor check` on an untouched notebook against loading torch, in CPU seconds, in turn."""
    notebook = release.released_path(ROOT, assignment)
    run = "from proctor.cli import app; app()"
    commands = {
        "ours": [sys.executable, "-c", run, "check", str(notebook)],
        "peer": [sys.executable, "-c", "import torch"],
    }
    used: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            # a notebook without answers fails its checks, and the command says so
            used[name].append(timed(command, may_fail=name == "ours")[1])
    ratios = [a / b for a, b in zip(used["ours"], used["peer"], strict=True)]
    return {
        "name": f"proctor check on the untouched notebook of {assignment}",
        "ours": "proctor check",
        "peer": "import torch",
        "ratio": min(used["ours"]) / min(used["peer"]),
        "spread": [min(ratios), max(ratios)],
        "ours_cpu": min(used["ours"]),
        "peer_cpu": min(used["peer"]),
        **about(),
    }


def about() -> dict:
    """Where and when a row was measured."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "device": measure.device_name("cpu"),
        "cores": os.cpu_count(),
        "real_time": os.sched_getscheduler(0) == os.SCHED_FIFO,  # ahead of what else ran
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "nbgrader", "nbclient")},
        "command": " ".join(["OMP_NUM_THREADS=1 python", *sys.argv]),
        "commit": commit,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--assignment", default="05_self_attention")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--isolation", default="", help="level; the strongest by default")
    options = parser.parse_args()
    work = submissions(options.assignment, options.count)
    console = Console(highlight=False)
    mine, loads = [], []
    for turn in ("first", "second"):
        loads.append(os.getloadavg()[0])
        mine.append(ours(options.assignment, work, options.jobs, options.isolation))
        console.print(f"proctor: {options.count / mine[-1].seconds:.2f} submissions a second")
        if turn == "first":
            peer = nbgraders(options.assignment, work)
            console.print(f"nbgrader: {options.count / peer.seconds:.2f} submissions a second")
    differing = sum(
        run.scores[s].get(c) != earned
        for run in mine
        for s, marks in peer.scores.items()
        for c, earned in marks.items()
    )
    seconds = mean(run.seconds for run in mine)
    row = {
        "name": f"grading {options.count} submissions of {options.assignment}",
        "ours": f"proctor, {options.jobs} workers, level {mine[0].detail['level']}",
        "peer": "nbgrader autograde",
        "ratio": peer.seconds / seconds,
        "spread": [peer.seconds / run.seconds for run in mine],
        "count": options.count,
        "jobs": options.jobs,
        "ours_per_second": options.count / seconds,
        "peer_per_second": options.count / peer.seconds,
        "ours_cpu_each": mean(run.cpu for run in mine) / options.count,
        "peer_cpu_each": peer.cpu / options.count,
        "error": differing,
        "detail": shares(mine, options.count),
        "load": loads,
        **about(),
    }
    path = ROOT / "benchmarks" / "results" / "grading.json"
    path.write_text(json.dumps([row, checking(options.assignment)], indent=1) + "\n", "utf-8")
    console.print(f"{row['ratio']:.1f} times nbgrader's; {differing} scores differ; {path.name}")


if __name__ == "__main__":
    main()

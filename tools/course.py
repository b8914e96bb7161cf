"""The main job: release the exercises, build the book, grade an example class.

The class is made here, seeded, from the solutions and their known wrong and right answers; no
submission is kept in the repository.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

import book
import exercises
import grade
from proctor import kill_matrix, release
from proctor.answers import Misconception

ROOT = Path(__file__).resolve().parent.parent
CLASS = ROOT / "_build" / "class"
SEED = 2026
# One mistake of each exercise that everybody should see caught.
SHOWN = {"05_self_attention": "no scaling"}
STUDENTS = ("amara", "bruno", "chen", "dilek", "emeka", "farah", "goran", "hana", "ivo")


def enrol(assignment: str) -> dict[str, str]:
    """Notebooks of an example class: the two ends of the scale, and students of mixed luck."""
    notebooks = kill_matrix.submissions(ROOT, assignment)
    known = kill_matrix.known_answers(ROOT, assignment)
    reference = kill_matrix.reference_answers(ROOT, assignment)
    released = release.released_path(ROOT, assignment).read_text("utf-8")
    mistakes = [answer for answer in known if isinstance(answer, Misconception)]
    shown = next((m for m in mistakes if m.name == SHOWN.get(assignment)), mistakes[0])
    enrolled = {
        "reference": notebooks["reference"],
        "untouched": notebooks["untouched"],
        shown.name.replace(" ", "-"): notebooks[kill_matrix.label(shown)],
    }
    draw = random.Random(f"{SEED} {assignment}")
    for student in STUDENTS:
        answers = dict(reference)
        for task in reference:
            mine = [answer for answer in known if answer.task == task]
            fate = draw.random()
            if fate < 0.1:
                del answers[task]  # left as it was released
            elif fate < 0.6:
                answers[task] = draw.choice(mine).source(reference[task])
        enrolled[student] = kill_matrix.submission(released, answers)
    return enrolled


def hand_in() -> Path:
    """Write the class's submissions as a real class would hand them in; returns the folder.

    The class is a course of its own, with the same solutions: its records, feedback and gradebook
    stay apart from those of real students.
    """
    submitted = CLASS / "submitted"
    shutil.rmtree(submitted, ignore_errors=True)
    submitted.mkdir(parents=True)
    solutions = CLASS / "solutions"
    if not solutions.exists():
        solutions.symlink_to(ROOT / "solutions")
    for assignment in release.assignments(ROOT):
        name = release.released_path(ROOT, assignment).name
        for student, text in enrol(assignment).items():
            place = submitted / student / assignment
            place.mkdir(parents=True)
            (place / name).write_text(text, "utf-8")
    return submitted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    if exercises.main():
        return 1
    try:
        html = book.build(options.jobs)
    except book.PageError as error:
        print(f"\nThe book was not built.\n\n{error}", file=sys.stderr)
        return 1
    status = grade.grade(CLASS, hand_in(), options.jobs, *grade.trusted())
    print(f"""
the book       {html.relative_to(ROOT)}/index.html
the exercises  exercises/ (make lab opens them; make handout packs them for students)
the class      {CLASS.relative_to(ROOT)}/_build/reports/, and feedback/ beside it
{time.perf_counter() - start:.0f} seconds""")
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Grade a folder of submissions, one exercise after the other: ``proctor grade`` on each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proctor import doctor, release
from proctor.cli import app
from proctor.terminal import plain

ROOT = Path(__file__).resolve().parent.parent


def handed_in(submitted: Path, root: Path) -> list[str]:
    """The exercises that somebody handed in, and what else lies in the folder as ``proctor`` says.

    Where nobody handed in anything, the first exercise: grading it names what is there instead.
    """
    known = release.assignments(root)
    return [name for name in known if any(submitted.glob(f"*/{name}"))] or known[:1]


def grade(root: Path, submitted: Path, jobs: int, *options: str) -> int:
    """Exit status of the worst run: 0 only if every submission has a record."""
    worst = 0
    for assignment in handed_in(submitted, root):
        arguments = ["grade", assignment, "--root", str(root), "--submitted", str(submitted)]
        arguments += ["--jobs", str(jobs), *options]
        try:
            status = app(arguments, standalone_mode=False) or 0
        except Exception as error:  # what one exercise meets costs no other its grades
            said = plain(f"{assignment}: {type(error).__name__}: {error}")
            print(f"This exercise was not graded to its end. {said}", file=sys.stderr)
            status = 1
        worst = max(worst, status)
    return worst


def trusted() -> tuple[str, ...]:
    """Options for submissions of our own making: no wall is needed where there is none."""
    return ("--isolation", doctor.offered()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submitted", type=Path, default=ROOT / "submitted")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if not options.submitted.is_dir():
        where = options.submitted
        print(f"There is no folder {where}. Put submissions at {where}/STUDENT/NN_name/name.ipynb.")
        return 1
    return grade(ROOT, options.submitted, options.jobs)


if __name__ == "__main__":
    sys.exit(main())

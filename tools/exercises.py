"""Release every exercise of solutions/ into exercises/."""

from __future__ import annotations

import sys
from pathlib import Path

from proctor import release

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    try:
        for assignment in release.assignments(ROOT):
            if release.is_fresh(ROOT, assignment):
                continue
            path, kept = release.release(ROOT, assignment)
            print(f"released {path.relative_to(ROOT)}")
            if kept:
                print(
                    f"  it had been edited by hand; the edited notebook is kept as {kept.name}.\n"
                    "  Exercises are made from solutions/: change them there."
                )
    except release.ReleaseError as error:
        print(f"\nThe exercises were not released.\n\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

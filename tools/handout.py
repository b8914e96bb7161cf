"""What students get: the exercises, the library and the checks; no solutions, no hidden tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from proctor import release

ROOT = Path(__file__).resolve().parent.parent
HANDOUT = ROOT / "_build" / "handout" / "lookback"
FILES = ("pyproject.toml", "requirements.txt", "LICENSE", "LICENSE-prose", "tools/setup.py")
README = """# Lookback: the exercises

One notebook a chapter, under `exercises/`. You need Python 3.11 or later and make.

    make            # sets up .venv and opens JupyterLab on the exercises

Each notebook says how to work with it. Your instructor tells you where to hand it in.
"""
MAKEFILE = """PYTHON ?= python3

lab: .venv/.ready
\t.venv/bin/jupyter lab --notebook-dir exercises

.venv/.ready: requirements.txt pyproject.toml
\t$(PYTHON) tools/setup.py
"""


def tracked(folder: str) -> list[Path]:
    """Files of a folder that git knows or would add; what it ignores stays at home."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def main() -> int:
    shutil.rmtree(HANDOUT.parent, ignore_errors=True)
    exercises = [release.released_path(ROOT, name) for name in release.assignments(ROOT)]
    packages = [path for name in ("lookback", "proctor") for path in tracked(f"src/{name}")]
    for path in [*exercises, *packages, *(ROOT / name for name in FILES)]:
        target = HANDOUT / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (HANDOUT / "README.md").write_text(README, "utf-8")
    (HANDOUT / "Makefile").write_text(MAKEFILE, "utf-8")
    archive = HANDOUT.with_name("lookback-exercises.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(p for p in HANDOUT.rglob("*") if p.is_file()):
            # a fixed date: the same handout is the same file
            entry = zipfile.ZipInfo(str(path.relative_to(HANDOUT.parent)), (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(entry, path.read_bytes())
    print(f"the handout: {HANDOUT.relative_to(ROOT)}/ and {archive.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The outer wall: workers in a bubblewrap jail, with a read-only system and nothing of the course.

No network, no home, no submissions, no gradebook; what a worker needs to know comes through one
socket, and what it found leaves through it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from proctor import walls

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}


def zygote_command(level: str) -> list[str]:
    """How to start what forks the workers at a level of isolation."""
    program = (
        f"import sys; sys.path[:0] = {library_path()!r}; from proctor.zygote import main; main()"
    )
    python = [sys.executable, "-I", "-c", program]
    return [*command(), *python] if level == "jail" else python


def environment() -> dict[str, str]:
    """The environment of workers; nothing of the driver's own."""
    return dict(ENVIRONMENT)


def command() -> list[str]:
    """The bubblewrap command, without the program to run in it."""
    bwrap = shutil.which("bwrap") or "bwrap"
    options = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net"]
    options += ["--unshare-ipc", "--unshare-uts", "--hostname", "proctor"]
    if os.geteuid() != 0:  # root keeps its own user namespace, to choose who a candidate is
        options.append("--unshare-user")
    # first, so that what is bound below it (a course that lies in /tmp) is not covered
    options += ["--tmpfs", "/tmp"]
    links, real = walls.resolved((*walls.interpreter(), *library_path()))
    for path, points_to in links.items():
        options += ["--symlink", points_to, path]
    for path in real:
        options += ["--ro-bind", path, path]
    options += ["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"]
    return [bwrap, *options]


def library_path() -> list[str]:
    """The folder that holds proctor, and beside it the libraries of the course.

    Nothing else of where the driver imports from: that may be the course itself, answers and all.
    """
    here = str(Path(__file__).resolve().parent.parent)
    inside = tuple(f"{p}{os.sep}" for p in (sys.prefix, sys.base_prefix))
    return [] if f"{here}{os.sep}".startswith(inside) else [here]

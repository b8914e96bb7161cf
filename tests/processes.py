"""Which processes are there, as Linux says; those that have ended and wait to be buried are not.

A process that lost its parent is buried by the first process of the machine, which may take its
time. It runs no code and holds nothing, so no test counts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    return _fields(pid)[:1] not in ([], ["Z"], ["X"])


def in_group(group: int) -> list[int]:
    """Processes of a process group that have not ended."""
    every = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in every if _fields(pid)[2:3] == [str(group)] and lives(pid)]


def children(pid: int) -> list[int]:
    """Processes that a process has started and that have not ended."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:  # it ended while it was looked at
            continue
    return [child for child in found if lives(child)]


def below(pid: int) -> list[int]:
    """All processes below one that have not ended."""
    direct = children(pid)
    return [*direct, *(grandchild for child in direct for grandchild in below(child))]


def gone(pids: Iterable[int]) -> bool:
    """Whether none of these processes lives, waiting a little for the kernel."""
    pids = list(pids)
    return _soon(lambda: not any(lives(pid) for pid in pids))


def group_gone(group: int) -> bool:
    """Whether nothing of a process group lives, waiting a little for the kernel."""
    return _soon(lambda: not in_group(group))


def _soon(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _fields(pid: int) -> list[str]:
    """State, parent, group and so on of a process; nothing where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # its name, in brackets, may hold anything

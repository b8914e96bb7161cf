"""What a process has used, as the system tells others; the process itself has no hand in it."""

from __future__ import annotations

import resource
import time
from contextlib import suppress


def cpu_time(pid: int) -> float:
    """CPU seconds that a process has used, all its threads together; 0 where it is gone."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def private_memory(pid: int) -> int:
    """Bytes of memory that a process has for itself, used or not; 0 where the system does not say.

    It is what ``RLIMIT_DATA`` bounds.
    """
    with suppress(OSError), open(f"/proc/{pid}/statm") as stream:
        return int(stream.read().split()[5]) * resource.getpagesize()
    return 0


def waited(pid: int) -> float:
    """Seconds that a process was ready to run and had no CPU; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/schedstat") as stream:
            return int(stream.read().split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0

"""What one submission has used in all, of every candidate that it was given and of the examiner."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from proctor.limits import Limits
from proctor.usage import cpu_time, waited

if TYPE_CHECKING:
    from proctor.forkserver import ForkServer

OWN_SHARE = 0.5  # of the whole, what the student's own cells may use


class Spent(Exception):
    """The submission has used up what all of it together may use."""


class Amount(NamedTuple):
    """Seconds of CPU time, and seconds on the clock in which the machine was not busy elsewhere."""

    cpu: float
    wall: float


class Spending:
    """The time of one submission, counted from now on.

    Args:
        server: forks the candidates; it knows what those that have ended have used.
        limits: the totals that one submission may use.
    """

    def __init__(self, server: ForkServer, limits: Limits) -> None:
        self.server, self.limits = server, limits
        self.own = Amount(0.0, 0.0)  # what the student's own cells have used of it
        self._waited = 0.0  # by candidates that have ended
        self._start = Amount(0.0, 0.0)
        self._start = self.so_far()

    def so_far(self, pid: int | None = None) -> Amount:
        """What has been used, that of the running candidate included."""
        cpu = time.process_time() + self.server.spent.get("candidates", 0.0)
        wall = time.monotonic() - waited(os.getpid()) - self._waited
        if pid is not None:
            cpu, wall = cpu + cpu_time(pid), wall - waited(pid)
        return Amount(cpu - self._start.cpu, wall - self._start.wall)

    def ends(self, pid: int) -> None:
        """A candidate is about to be ended, and how long it waited would be lost with it."""
        self._waited += waited(pid)

    def count_own(self, before: Amount, after: Amount) -> bool:
        """Put what a cell of the student's own used on its account; whether that is overdrawn."""
        used = (max(b - a, 0.0) for a, b in zip(before, after, strict=True))
        self.own = Amount(*(x + y for x, y in zip(self.own, used, strict=True)))
        return self._is_over(self.own, OWN_SHARE)

    def hold(self, pid: int | None = None) -> None:
        """Go on only where something is left.

        Raises:
            Spent: where nothing is.
        """
        if self._is_over(self.so_far(pid), 1.0):
            cpu, wall = self.limits.total_cpu, self.limits.total_wall
            raise Spent(f"one notebook may take {cpu:g} s of CPU time and {wall:g} s in all")

    def _is_over(self, used: Amount, share: float) -> bool:
        cpu, wall = self.limits.total_cpu, self.limits.total_wall
        return used.cpu > share * cpu or used.wall > share * wall

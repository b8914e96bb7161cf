"""Budgets: what a candidate may use, and what may come back from it.

Time is CPU time, so that a busy machine changes no grade; the wall limits are generous and only
catch sleepers. A crossing is one frame on the wire, a check one graded cell.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

MiB = 2**20


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Args:
        cpu: CPU seconds of the candidate for one check, and for one of the student's cells.
        wall: wall seconds for the same, several times ``cpu``: only a sleeper meets it.
        total_cpu: CPU seconds of a whole submission: every attempt, the examiner's side too.
        total_wall: wall seconds for the same.
        overruns: overruns and crashes of one task after which its other checks are not run.
        memory: bytes of address space beyond what the candidate starts with.
        scratch: bytes of the private folder.
        file_size: bytes of one file.
        open_files: open files.
        processes: threads and processes together.
        frame: bytes of tensors in one crossing, and of any one tensor when it is laid out.
        head: bytes of everything else in one crossing.
        output: characters that are kept of what a cell prints.
    """

    cpu: float = 10.0
    wall: float = 60.0
    total_cpu: float = 300.0
    total_wall: float = 1200.0
    overruns: int = 2
    memory: int = 1024 * MiB
    scratch: int = 32 * MiB
    file_size: int = 16 * MiB
    open_files: int = 64
    processes: int = 64
    frame: int = 64 * MiB
    head: int = 2 * MiB
    output: int = 10_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"the limit {name} must be above 0, got {value}")
        for wall, cpu in ((self.wall, self.cpu), (self.total_wall, self.total_cpu)):
            if wall < cpu:
                raise ValueError(f"a wall limit of {wall} s would cut off a CPU budget of {cpu} s")

    def as_dict(self) -> dict[str, float]:
        """The limits as plain data, for a record or a message."""
        return asdict(self)

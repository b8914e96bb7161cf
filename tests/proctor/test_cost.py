"""What a call costs is measured where the student's code has no hand in it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proctor import doctor, forkserver, libc
from proctor.examiner import Examinee, Gone, Verdict, setup_namespace
from proctor.limits import Limits, MiB

pytestmark = pytest.mark.skipif(not libc.LINUX, reason="measured from outside on Linux alone")

LIMITS = Limits(cpu=5, wall=20, memory=1024 * MiB)
STUDENT = """
import torch


def whole(x):
    return (x @ x.mT).softmax(-1) @ x


def by_rows(x, rows=64):
    return torch.cat([(part @ x.mT).softmax(-1) @ x for part in x.split(rows)])


def raised(x):
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    except (OSError, ValueError):
        pass
    return whole(x)


def shared(x, flags=None, path=None):
    import mmap

    size = 4 * len(x) ** 2
    if path is not None:
        with open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
    elif flags is not None:
        memory = mmap.mmap(-1, size, flags=flags)
    else:
        memory = mmap.mmap(-1, size)
    scores = torch.frombuffer(memory, dtype=torch.float32).view(len(x), len(x))
    torch.matmul(x, x.mT, out=scores)
    return torch.cat([part.softmax(-1) @ x for part in scores.split(64)])


def on_a_stack(x):
    return shared(x, flags=0x122)  # private, of no file, growing downwards


def of_zeros(x):
    return shared(x, path="/dev/zero")


hoard = None


def hoarded(x):
    global hoard
    hoard = None
    return whole(x)


def neighbours(x):
    return x + x.roll(1, 0)
"""
SETUP = setup_namespace(["import torch\nfrom lookback import checks"])


@contextmanager
def started(level: str) -> Iterator[Examinee]:
    """A candidate that holds the answers."""
    forkserver.warm_up()
    server = forkserver.ForkServer()
    pid, sock = server.start(level, LIMITS)
    examinee = Examinee(pid, sock, LIMITS)
    examinee.level = level
    _, error = examinee.run("answers", STUDENT)
    assert error is None, error
    yield examinee
    examinee.channel.close()
    server.stop()
    server.close()


@pytest.fixture(scope="module", params=doctor.offered())
def candidate(request) -> Iterator[Examinee]:
    """A candidate at each level of isolation that this machine offers."""
    with started(request.param) as examinee:
        yield examinee


def run(candidate: Examinee, check: str) -> Verdict:
    """One check."""
    return candidate.check(check, "check", SETUP, b"key")


def ended(candidate: Examinee, check: str) -> str:
    """Why a check was not passed; its candidate may be gone."""
    try:
        verdict = run(candidate, check)
    except Gone as gone:
        return str(gone)
    assert verdict.outcome == "failed"
    return verdict.message


LIMITED = """
x = torch.randn(6144, 4)
with checks.memory(32, told="right numbers, but memory grew with T²"):
    {}(x)
"""


def test_a_table_of_all_pairs_does_not_fit_where_rows_do(candidate):
    for _ in range(2):  # what an earlier call freed is no room for the next
        assert run(candidate, LIMITED.format("by_rows")).passed
        verdict = run(candidate, LIMITED.format("whole"))
        assert verdict.outcome == "failed"
        assert verdict.message.startswith("right numbers, but memory grew with T²")
        assert "more than 32 MiB at once" in verdict.message


@pytest.mark.parametrize("level", doctor.offered())
def test_memory_that_was_set_aside_is_no_room(level):
    with started(level) as candidate:
        candidate.run("more", "hoard = torch.empty(400 * 2**20, dtype=torch.uint8)")
        said = ended(candidate, LIMITED.format("hoarded").replace("6144", "8192"))
        assert "32 MiB" in said


def test_memory_of_the_process_that_forks_is_no_loss_of_the_candidate():
    grown = mmap.mmap(-1, 900 * MiB)  # address space that every later copy of this process has
    try:
        with started(doctor.offered()[0]) as candidate:
            assert run(candidate, "assert whole(torch.randn(6144, 4)).shape == (6144, 4)").passed
    finally:
        grown.close()


def test_the_limit_ends_with_its_block(candidate):
    held = LIMITED.format("by_rows") + "assert whole(x).shape == (6144, 4)"
    assert run(candidate, held).passed


def test_a_candidate_behind_a_filter_cannot_raise_its_limit(candidate):
    if candidate.level == "limits":
        pytest.skip("no filter of system calls at this level")
    assert run(candidate, LIMITED.format("raised")).outcome == "failed"


@pytest.mark.parametrize("way", ["shared", "on_a_stack", "of_zeros"])
def test_memory_that_no_limit_counts_is_not_to_be_had_behind_a_filter(candidate, way):
    if candidate.level == "limits":
        pytest.skip("no filter of system calls at this level")
    verdict = run(candidate, LIMITED.format(way))
    assert not verdict.passed
    assert "Error" in verdict.message


def test_a_file_may_be_mapped_to_be_read(candidate):
    candidate.run(
        "mapping",
        "def mapped():\n    import mmap\n    with open(torch.__file__, 'rb') as file:\n"
        "        return len(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))",
    )
    assert run(candidate, "assert mapped() > 1000").passed


def test_work_that_grows_with_the_square_is_told_by_its_cpu_time(candidate):
    grows = "checks.growth(lambda T: {}(torch.randn(T, 4)), (512, 8192), told='it grew with T²')"
    assert run(candidate, grows.format("neighbours")).passed
    verdict = run(candidate, grows.format("by_rows"))
    assert verdict.outcome == "failed"
    assert verdict.message.startswith("it grew with T²")

"""The cost of a call is counted in a notebook, and left to a grading engine that measures it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from lookback import checks
from lookback.checks.cost import Counter, MiB


def failure(check, *args, **options) -> str:
    """The message of a check that must fail."""
    with pytest.raises(AssertionError) as caught:
        check(*args, **options)
    return str(caught.value)


def whole(x):
    return (x @ x.mT).softmax(-1) @ x


def by_rows(x, rows=64):
    return torch.cat([(part @ x.mT).softmax(-1) @ x for part in x.split(rows)])


def within(limit, call, *args):
    with checks.memory(limit, told="memory grew with T²", hint="work in tiles"):
        return call(*args)


def test_memory_counts_what_is_held_at_once_and_not_what_was_let_go():
    x = torch.randn(1024, 4)  # the table of all pairs has 4 MiB, one of 64 rows a quarter
    assert within(2, by_rows, x).shape == (1024, 4)
    message = failure(within, 2, whole, x)
    assert message.splitlines() == [
        "memory grew with T²",
        "  hint: work in tiles",
        "  it needed more than 2 MiB at once beside its arguments",
    ]


def test_memory_counts_no_views_no_arguments_and_nothing_written_in_place():
    x = torch.zeros(MiB // 4)
    with Counter(MiB // 2) as counter:
        y = x.view(512, -1).mT.unfold(0, 8, 8).expand(4, -1, -1, -1)[1:]
        x.add_(1).mul_(2)
        x[:10] = y[0, :1, :1, 0]
    assert counter.work == 2 * x.numel() + 10


def test_memory_counts_what_autograd_keeps():
    x = torch.zeros(MiB // 4, requires_grad=True)

    def chain(x):
        for _ in range(8):
            x = x.sin()
        return x

    assert "more than 4 MiB" in failure(within, 4, chain, x)
    with torch.no_grad():
        within(4, chain, x)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_memory_that_ran_out_is_told_as_such_and_other_errors_pass(error):
    def stops(error):
        raise error

    assert failure(within, 1, stops, error).startswith("memory grew with T²")
    with pytest.raises(RuntimeError, match="sizes do not match"):
        within(1, stops, RuntimeError("sizes do not match"))


def test_growth_tells_a_square_from_a_line():
    def squared(T):
        return by_rows(torch.randn(T, 4))

    def linear(T):
        x = torch.randn(T, 4)
        return [x[i : i + 8] @ x[i : i + 8].mT for i in range(0, T, 8)]

    options = {"sizes": (256, 2048), "told": "work grew with T²", "hint": "look at the window only"}
    checks.growth(linear, **options)
    first, hint, numbers = failure(checks.growth, squared, **options).splitlines()
    assert (first, hint) == ("work grew with T²", "  hint: look at the window only")
    assert numbers.endswith("times the work, from 256 to 2048")
    assert 50 < int(numbers.split()[5]) <= 64


def engine(code: str, **hooks: object) -> dict[str, object]:
    """Run code as a check whose namespace holds the hooks of a grading engine."""
    namespace = {"__name__": "check", "checks": checks, "torch": torch} | hooks
    exec(code, namespace)
    return namespace


def test_memory_is_left_to_an_engine_that_limits_it():
    seen = []

    @contextmanager
    def limited(size):
        seen.append(size)
        yield
        raise RuntimeError("the other side: DefaultCPUAllocator: can't allocate memory")

    code = "with checks.memory(3, told='too much'):\n    torch.zeros(8 * 2**20)"
    assert failure(engine, code, __limited__=limited).startswith("too much")
    assert seen == [3 * MiB]


def test_growth_is_left_to_an_engine_that_knows_what_was_spent():
    clock = [0.0]

    def call(n):
        clock[0] += n**2 * 1e-6
        torch.zeros(n)

    code = "checks.growth(call, (10, 100), told='too fast')"
    hooks = {"call": call, "__spent__": lambda: clock[0]}
    assert "10 times the size took 100 times the work" in failure(engine, code, **hooks)
    del hooks["__spent__"]
    engine(code, **hooks)


def test_growth_forgives_one_disturbance():
    clock, busy = [0.0], [5.0]

    def call(n):
        clock[0] += n * 1e-3
        if n == 100 and busy:
            clock[0] += busy.pop()

    hooks = {"call": call, "__spent__": lambda: clock[0]}
    engine("checks.growth(call, (10, 100), told='too fast')", **hooks)
    assert not busy


def test_growth_bounds_the_large_size_where_the_small_one_idled():
    clock = [0.0]

    def call(n):
        clock[0] += max(n**2 * 1e-3, 1.0)  # 10 s at 100, after 1 s at 10

    code = "checks.growth(call, (10, 100), told='too slow', seconds={})"
    hooks = {"call": call, "__spent__": lambda: clock[0]}
    engine(code.format(11.0), **hooks)
    told = failure(engine, code.format(9.0), **hooks).splitlines()
    assert told == ["too slow", "  100 took 10.0 s of CPU time where 9 s are ample"]

"""What a call costs: how much memory at once, and how much more work when its input grows.

In a notebook both are counted here, tensor by tensor, so that a busy machine changes no grade. A
grading engine that keeps the student's code in another process measures from outside instead: it
puts ``__limited__`` and ``__spent__`` into the namespace of a check, as it does for
:func:`lookback.checks.given`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lookback.checks.comparing import fail
from lookback.checks.notebook import calling_namespace

MiB = 2**20
NO_ROOM = ("can't allocate memory", "not enough memory")  # what torch says; Python has MemoryError


def memory(limit: int, *, told: str, hint: str = "") -> AbstractContextManager[None]:
    """Hold that the calls inside never take more than ``limit`` MiB at once beyond their arguments.

    Make it the innermost context, and call under no gradient: autograd keeps what it needs. Where
    the namespace of the caller holds a callable ``__limited__``, it is given the bytes, and the
    context manager that it returns lets the call run out of memory; tensors are counted otherwise.

    Args:
        limit: in MiB. Leave room: small tensors and an allocator's habits are no mistake.
        told: what it means, as "right numbers, but memory grew with T²".
        hint: where to look.

    Raises:
        AssertionError: ``told``, and the limit.
    """
    elsewhere = calling_namespace().get("__limited__")
    return _within(elsewhere if callable(elsewhere) else Counter, limit, told, hint)


def growth(
    call: Callable[[int], object],
    sizes: tuple[int, int],
    *,
    told: str,
    hint: str = "",
    slack: float = 3.0,
    seconds: float | None = None,
) -> None:
    """Hold that work grows in step with size: not ``slack`` times as fast.

    Where the namespace of the caller holds a callable ``__spent__``, work is the difference that a
    call makes in it (seconds of CPU time, from outside); the numbers in all tensors that a call
    makes are counted otherwise. Choose sizes far apart, so that the wrong growth is far off.

    Args:
        call: what to measure at one size.
        sizes: a small and a large one.
        told: what it means, as "right numbers, but work grew with T²".
        hint: where to look.
        slack: how many times the ratio of the sizes the ratio of work may be.
        seconds: of CPU time that the large size may take, where work is measured in it: a function
            that idles at the small size has the right ratio. Be generous, machines differ.

    Raises:
        AssertionError: ``told``, and both ratios or the seconds.
    """
    spent = calling_namespace().get("__spent__")

    def work(size: int) -> float:
        if not callable(spent):
            with Counter() as counter:
                call(size)
            return float(counter.work)
        before = spent()
        call(size)
        return spent() - before

    small, large = sizes
    first = min(work(small) for _ in range(3))  # the first call also pays for what is loaded late
    allowed = slack * large / small
    second = work(large)
    if second > allowed * first:
        second = min(second, work(large))  # a disturbance does not come twice
    if second > allowed * first:
        ratio = f"{large / small:.0f} times the size took {second / max(first, 1e-9):.0f} times"
        fail(told, hint, f"{ratio} the work, from {small} to {large}")
    if callable(spent) and seconds is not None and second > seconds:
        fail(told, hint, f"{large} took {second:.1f} s of CPU time where {seconds:g} s are ample")


class Counter(TorchDispatchMode):
    """Counts the tensors that are made inside it.

    Args:
        limit: bytes that they may have at once.

    Attributes:
        work: numbers written so far, views not counted.

    Raises:
        MemoryError: in the operation that goes beyond the limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit, self.work = limit, 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        given = {_storage(x)._cdata for x in _tensors((args, kwargs))}
        for x in _tensors(result):
            self.work += x.numel()
            storage = _storage(x)
            key = storage._cdata
            if key not in given and key not in self._held:
                self._held[key] = storage.nbytes()
                weakref.finalize(storage, self._held.pop, key, None)
        if self.limit is not None and sum(self._held.values()) > self.limit:
            raise MemoryError(f"more than {self.limit / MiB:g} MiB of tensors")
        return result


def _tensors(tree: object) -> list[torch.Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _storage(x: torch.Tensor) -> torch.UntypedStorage:
    return x.untyped_storage()


@contextmanager
def _within(
    bounded: Callable[[int], AbstractContextManager], limit: int, told: str, hint: str
) -> Iterator[None]:
    try:
        with bounded(limit * MiB):
            yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(words in str(error) for words in NO_ROOM)):
            raise
        fail(told, hint, f"it needed more than {limit} MiB at once beside its arguments")

"""Time, memory and operation counts of a call, each with the device and the spread.

Every function takes a call without arguments (``lambda: layer(x)``), so that what is measured is
exactly what stands in it.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles: half of all measurements lie from ``low`` to ``high``."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"

    def __float__(self) -> float:
        return self.median


def seconds(f: Call, *, min_seconds: float | int = 0.2, processor: bool = False) -> Spread:
    """Seconds that one call takes, once it is warm (torch.utils.benchmark).

    Args:
        f: what to time. On a GPU the clock stops when the device has finished.
        min_seconds: time in seconds to spend on blocks of calls.
        processor: count the time that the processor spends on this process, all threads together.
            Other programs do not lengthen it; waiting, and the work of a GPU, are not in it.

    Returns:
        Median and quartiles over the blocks, in seconds a call.

    Raises:
        ValueError: if ``min_seconds`` is not positive.
    """
    _check_min_seconds(min_seconds)
    f()  # the first call pays for caches and lazy imports
    found = _timer(f, processor).blocked_autorange(min_run_time=min_seconds)
    return _spread(found.times)


def compare(
    calls: Mapping[str, Call],
    *,
    rounds: int = 9,
    min_seconds: float | int = 0.02,
    processor: bool = False,
) -> dict[str, Spread]:
    """How many times as long each call takes as the first one.

    The calls take turns, one block each a round, and a ratio is taken within a round: what slows
    the machine for a while then slows both sides of it.

    Args:
        calls: name → what to time; the first is the one to compare with.
        rounds: turns that each call gets; at least 1.
        min_seconds: least length in seconds of one block.
        processor: as in :func:`seconds`.

    Returns:
        Name → ratio of times, no unit; exactly 1 for the first.

    Raises:
        ValueError: if there are fewer than two calls, or a number is not positive.
    """
    if len(calls) < 2:
        raise ValueError(f"a comparison needs two calls or more, got {len(calls)}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    _check_min_seconds(min_seconds)
    timers = {name: _timer(f, processor) for name, f in calls.items()}
    number = {name: _calls_in(min_seconds, f, timers[name]) for name, f in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(number[name]).mean)
    base = next(iter(times.values()))
    return {
        name: _spread([t / b for t, b in zip(own, base, strict=True)])
        for name, own in times.items()
    }


def peak_memory(f: Call, *, device: torch.device | str = "cpu") -> int:
    """Bytes that tensors take at the highest point of one call, above what was there before.

    On a CPU every allocation of torch's allocator counts (torch.profiler), temporaries inside an
    operation too; memory that a library asks the system for by itself does not. On a GPU this is
    ``torch.cuda.max_memory_allocated``. What the call returns counts while it is held, as does
    what autograd keeps: run the call under ``torch.no_grad()`` to leave that out.

    Args:
        f: what to measure.
        device: whose memory; ``"cpu"`` or a CUDA device.

    Returns:
        Peak in bytes; 0 where nothing is allocated.

    Raises:
        ValueError: if the device is neither.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        f()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        raise ValueError(f"memory is measured on cpu or cuda, not on {device.type}")
    # read when the profiler first starts, which otherwise announces itself on stderr
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        f()
    changes = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak


def operations(f: Call) -> int:
    """Floating-point operations of the matrix products in one call (torch.utils.flop_counter).

    A multiplication and the addition after it count as two. Everything else, softmax included,
    counts as nothing: beside the products it is small, but it is not free.

    Args:
        f: what to count, backward pass included where the call runs one.

    Returns:
        Number of operations.
    """
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    fused = {
        aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        f()
    return counter.get_total_flops()


def fitted_exponent(sizes: Sequence[float | int], values: Sequence[float | int]) -> float:
    """The ``a`` of ``value ≈ c · size^a``: slope of a straight line through the logarithms.

    Args:
        sizes: positive, at least two different ones.
        values: positive, one a size.

    Returns:
        The exponent: 1 where doubling the size doubles the value, 2 where it quadruples it.

    Raises:
        ValueError: if the numbers do not pair up, are not positive, or are all of one size.
    """
    if len(sizes) != len(values):
        raise ValueError(f"{len(sizes)} sizes but {len(values)} values")
    if not all(x > 0 for x in [*sizes, *values]):
        raise ValueError(f"logarithms need positive numbers, got {[*sizes, *values]}")
    if len(set(sizes)) < 2:
        raise ValueError(f"a slope needs at least two different sizes, got {list(sizes)}")
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def device_name(device: torch.device | str = "cpu") -> str:
    """The device by its maker's name, and how many threads of it torch uses.

    Examples: ``"Intel(R) Xeon(R) Processor, 1 thread"``, ``"NVIDIA H200"``.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    name = _processor() if device.type == "cpu" else device.type
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "CPU"


def _timer(f: Call, processor: bool = False):
    from torch.utils.benchmark import Timer

    clock = {"timer": time.process_time} if processor else {}
    return Timer("f()", globals={"f": f}, num_threads=torch.get_num_threads(), **clock)


def _calls_in(min_seconds: float | int, f: Call, timer) -> int:
    f()  # warm
    once = timer.timeit(1).mean
    return max(1, math.ceil(min_seconds / max(once, 1e-9)))


def _spread(values: Sequence[float]) -> Spread:
    values = torch.tensor(list(values), dtype=torch.float64)
    low, median, high = values.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
    return Spread(median, low, high, len(values))


def _check_min_seconds(min_seconds: float | int) -> None:
    if not min_seconds > 0:
        raise ValueError(f"min_seconds must be positive, got {min_seconds}")


def _fused_attention(q_shape, k_shape, v_shape, *_, out_shape=None, **__) -> int:
    """Two products a pair of query and key: its score, and its share of the weighted sum."""
    *batch, T, K = q_shape
    S, V = v_shape[-2:]
    return 2 * math.prod(batch) * T * S * (K + V)


def _fused_attention_backward(_, q_shape, k_shape, v_shape, *__, out_shape=None, **___) -> int:
    """Five products: scores again, and the gradients of values, weights, queries and keys."""
    *batch, T, K = q_shape
    S, V = v_shape[-2:]
    return 2 * math.prod(batch) * T * S * (3 * K + 2 * V)

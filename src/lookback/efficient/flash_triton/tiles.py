"""What the kernels share: which tiles to visit, how to load one, and which of its scores are open.

A key ``j`` is open to a query ``i`` where ``low ≤ j − i ≤ high``: one band along the diagonal.
Causal attention has ``high = offset``, a window of width ``w`` has ``low = offset − (w − 1)``, and
full attention has neither end. ``LOWER`` and ``UPPER`` say which ends there are.
"""

from typing import no_type_check

import triton
import triton.language as tl

# The interpreter keeps bfloat16 as bare 16-bit integers, which numpy cannot multiply.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


# no_type_check keeps type checkers that wrap functions away: Triton compiles the source it finds.
@triton.jit
@no_type_check
def runs(begin, full_begin, full_end, end, BLOCK: tl.constexpr):
    """Cut ``begin … end`` into tiles that need a mask, tiles that need none, and again a mask.

    Only tiles wholly inside ``full_begin … full_end`` need none. Returns the four borders, moved
    to where tiles start.
    """
    begin = tl.maximum(begin, 0) // BLOCK * BLOCK
    end = tl.maximum(end, 0)
    full_begin = tl.minimum(tl.cdiv(tl.maximum(full_begin, 0), BLOCK) * BLOCK, end)
    full_end = tl.maximum(tl.maximum(full_end, 0) // BLOCK * BLOCK, full_begin)
    return begin, full_begin, tl.minimum(full_end, end), end


@triton.jit
@no_type_check
def span(begin, full_begin, full_end, end, CUT: tl.constexpr):
    """First and last step of a walk: over the tiles that are open throughout, or over the others.

    The others lie on both sides of the open ones. :func:`skipped` jumps the gap, so that one loop
    serves both sides: each further loop costs registers, which are what these kernels run out of.
    """
    start = full_begin
    stop = full_end
    if CUT:
        start = begin
        stop = end - (full_end - full_begin)
    return start, stop


@triton.jit
@no_type_check
def skipped(n, full_begin, full_end, CUT: tl.constexpr):
    """How far step ``n`` of a walk has jumped."""
    gap = 0
    if CUT:
        gap = tl.where(n >= full_begin, full_end - full_begin, 0)
    return gap


@triton.jit
@no_type_check
def key_runs(
    first, T, full, reach, low, high,
    LOWER: tl.constexpr, UPPER: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The keys that any query of the tile at ``first`` sees, and those that all of them see.

    Of the keys themselves the first ``full`` are open, and those from ``reach`` on are closed.
    """
    last = tl.minimum(first + BLOCK_T, T) - 1
    begin = 0
    full_begin = 0
    if LOWER:
        begin = first + low
        full_begin = last + low
    if UPPER:
        reach = tl.minimum(reach, last + high + 1)
        full = tl.minimum(full, first + high + 1)
    return runs(begin, full_begin, full, reach, BLOCK_S)


@triton.jit
@no_type_check
def query_runs(
    first, T, S, low, high,
    LOWER: tl.constexpr, UPPER: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The queries that see any key of the tile at ``first``, and those that see all of them."""
    last = tl.minimum(first + BLOCK_S, S) - 1
    begin = 0
    full_begin = 0
    end = T
    full_end = T
    if UPPER:
        begin = first - high
        full_begin = last - high
    if LOWER:
        end = tl.minimum(end, last - low + 1)
        full_end = tl.minimum(full_end, first - low + 1)
    return runs(begin, full_begin, full_end, end, BLOCK_T)


@triton.jit
@no_type_check
def load(
    base, first, length, stride,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """Rows ``first … first + BLOCK`` of a matrix with ``length`` rows; zeros beyond its edges.

    ``PADDED`` is the width rounded up to a power of two, which is what a tile must have. ``CUT``
    says whether the tile may reach beyond the last row: without it, rows are loaded unasked.
    """
    row = tl.arange(0, BLOCK)
    column = tl.arange(0, PADDED)
    # the start in 64 bits: a long sequence of many heads outgrows 32; inside a tile 32 suffice
    start = base + tl.cast(first, tl.int64) * stride
    pointers = start + row[:, None] * stride + column[None, :]
    inside = (row[:, None] < length - first) & (column[None, :] < WIDTH)
    if CUT:
        x = tl.load(pointers, mask=inside, other=0.0)
    elif WIDTH < PADDED:
        x = tl.load(pointers, mask=column[None, :] < WIDTH, other=0.0)
    else:
        x = tl.load(pointers)
    return x


@triton.jit
@no_type_check
def store(
    x, base, first, length, stride, BLOCK: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr
):  # fmt: skip
    """Write a tile to rows ``first … first + BLOCK``, in the dtype it finds there."""
    row = tl.arange(0, BLOCK)
    column = tl.arange(0, PADDED)
    start = base + tl.cast(first, tl.int64) * stride
    pointers = start + row[:, None] * stride + column[None, :]
    inside = (row[:, None] < length - first) & (column[None, :] < WIDTH)
    tl.store(pointers, x.to(base.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def dot(a, b, c):
    """``c + a b``: operands in their own dtype, sums in float32, and float32 without TF32."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, c, input_precision="ieee")


@triton.jit
@no_type_check
def open_scores(query, key, low, high, LOWER: tl.constexpr, UPPER: tl.constexpr, inside):
    """Which of the scores lie inside the band, of those that ``inside`` leaves open."""
    if UPPER:
        inside = inside & (key - query <= high)
    if LOWER:
        inside = inside & (key - query >= low)
    return inside

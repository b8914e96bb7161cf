"""Assertions for exercises: each failure says what is wrong and where to look.

A check calls the student's function and hands the result to one of these. A failure is an
``AssertionError`` of a few plain lines: what is wrong, where to look, then the numbers.

=================  ==============================================================================
:func:`close`      the right numbers, or the known mistake that explains the wrong ones
:func:`number`     the same for a single number, Python's or a tensor's
:func:`shape`      the right shape, or what is wrong with it
:func:`gradients`  the right gradients, by one backward pass
:func:`unmoved`    a change of the input that must not show, did not
:func:`moved`      a change of the input that must show, did
:func:`unchanged`  no argument was written to
:func:`memory`     no more than so many MiB at once
:func:`growth`     work that grows in step with the size, and no faster
:func:`case`       says with which inputs a check failed, also where the code stopped by itself
:func:`given`      the reference under a student's name, so that each task is graded on its own
:func:`ban`        what an exercise wants written, not called
=================  ==============================================================================

The module knows no model: expected values come from the check that calls it.
"""

from lookback.checks.comparing import (
    TOLERANCE,
    close,
    gradients,
    moved,
    number,
    shape,
    unchanged,
    unmoved,
)
from lookback.checks.cost import growth, memory
from lookback.checks.notebook import ban, case, given

__all__ = [
    "TOLERANCE",
    "ban",
    "case",
    "close",
    "given",
    "gradients",
    "growth",
    "memory",
    "moved",
    "number",
    "shape",
    "unchanged",
    "unmoved",
]

"""Comparisons of what a student's code returned with what it should have returned."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor

# Relative and absolute: room for another order of operations, not for another formula.
TOLERANCE = {
    torch.float64: 1e-7,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}


def close(
    actual: object,
    expected: Tensor,
    *,
    what: str,
    suspects: Mapping[str, Tensor] | None = None,
    hint: str = "",
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Compare a student's tensor with the expected one: shape, dtype, device, every number.

    Args:
        actual: what the student's code returned, whatever it is.
        expected: what it should be.
        what: a name for it that starts the message, as "the output".
        suspects: by diagnosis, what a known mistake would have returned; the first that equals
            ``actual`` leads the message.
        hint: where to look.
        rtol: relative tolerance; by the dtype of ``expected`` when left out.
        atol: absolute tolerance; likewise.

    Raises:
        AssertionError: the diagnosis, the first wrong index, both numbers there, the largest error.
    """
    _require_tensor(actual, what, hint, expected)
    if actual.device != expected.device:
        fail(f"{what} is on {actual.device} but should be on {expected.device}", hint)
    limits = _limits(expected.dtype, rtol, atol)
    right = _near(actual, expected, limits)
    if not right:
        for diagnosis, wrong in (suspects or {}).items():
            if _near(actual, wrong, limits):
                fail(f"{what}: {diagnosis}", hint, _difference(actual, expected, limits))
    shape(actual, expected.shape, what=what, hint=hint)
    if actual.dtype != expected.dtype:
        fail(f"{what} has dtype {actual.dtype} but should have {expected.dtype}", hint)
    if right:
        return
    told = f"{what} has wrong numbers"
    if bool((actual.isnan() & ~expected.isnan()).any()):
        told = f"{what} holds NaN in {int(actual.isnan().sum())} of {actual.numel()} numbers"
    fail(told, hint, _difference(actual, expected, limits))


def number(
    actual: object,
    expected: int | float,
    *,
    what: str,
    suspects: Mapping[str, int | float] | None = None,
    hint: str = "",
    rtol: float = 1e-5,
) -> None:
    """Compare one number: Python's own, or a tensor that holds one.

    Args:
        actual: what the student's code returned, whatever it is.
        expected: what it should be.
        what, suspects, hint: as :func:`close`.
        rtol: relative tolerance; the absolute one is a tenth of it.

    Raises:
        AssertionError: the diagnosis and both numbers.
    """
    if isinstance(actual, Tensor) and actual.numel() == 1:
        actual = actual.item()
    if actual is None:
        fail(f"{what} is None: is `return` missing?", hint)
    if not isinstance(actual, numbers.Real):
        many = f" of shape {tuple(actual.shape)}" if isinstance(actual, Tensor) else ""
        fail(f"{what} is a {type(actual).__name__}{many} but should be one number", hint)
    if not isinstance(actual, int | float):  # numpy's own
        actual = (int if isinstance(actual, numbers.Integral) else float)(actual)
    found = f"yours {_number(actual)}, expected {_number(expected)}"
    if _near_number(actual, expected, rtol):
        return
    for diagnosis, wrong in (suspects or {}).items():
        if _near_number(actual, wrong, rtol):
            fail(f"{what}: {diagnosis}", hint, found)
    fail(f"{what} is not the right number", hint, found)


def shape(actual: object, expected: tuple[int, ...], *, what: str, hint: str = "") -> None:
    """Compare the shape alone.

    Raises:
        AssertionError: both shapes, and what may have happened between them.
    """
    expected = tuple(expected)
    _require_tensor(actual, what, hint)
    found = tuple(actual.shape)
    if found == expected:
        return
    guess = ""
    if len(found) != len(expected):
        guess = f": {len(found)} axes instead of {len(expected)}"
    elif found == (*expected[:-2], *reversed(expected[-2:])):
        guess = ": the last two axes are swapped"
    elif sorted(found) == sorted(expected):
        guess = ": the right axes in the wrong order"
    fail(f"{what} has shape {found} but should have {expected}{guess}", hint)


def gradients(
    actual: object,
    expected: Tensor,
    inputs: Mapping[str, Tensor],
    *,
    what: str,
    hint: str = "",
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Compare one backward pass through the student's result with one through the expected one.

    Args:
        actual: the student's result, computed from ``inputs``.
        expected: the reference's, computed from the same ``inputs``.
        inputs: by name, the leaves of both.
        what: a name for the result.
        hint: where to look.
        rtol: relative tolerance; by the dtype of ``expected`` when left out.
        atol: absolute tolerance; likewise.

    Raises:
        AssertionError: if the shapes differ, no gradient flows, or one is wrong, naming the input.
    """
    shape(actual, expected.shape, what=what, hint=hint)
    if not actual.requires_grad:
        cut = "was it detached, rebuilt from numbers, or computed under torch.no_grad()?"
        fail(f"no gradient flows back from {what}: {cut}", hint)
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(expected.shape, generator=generator, dtype=expected.dtype)
    upstream, leaves = upstream.to(expected.device), tuple(inputs.values())
    mine = torch.autograd.grad(actual, leaves, upstream, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, upstream, allow_unused=True)
    for (name, leaf), got, want in zip(inputs.items(), mine, wanted, strict=True):
        want = torch.zeros_like(leaf) if want is None else want
        if got is None and bool(want.any()):
            fail(f"no gradient of {what} reaches {name}: is {name} used, and not detached?", hint)
        got = torch.zeros_like(leaf) if got is None else got
        name = f"the gradient of {what} with respect to {name}"
        close(got, want, what=name, hint=hint, rtol=rtol, atol=atol)


def unmoved(before: object, after: object, *, what: str, when: str, hint: str = "") -> None:
    """Hold that ``what`` stayed the same ``when`` something changed that it may not depend on.

    Raises:
        AssertionError: "``what`` moved when ``when``", with the first place and both numbers.
    """
    if not _same(before, after, what, hint):
        found = _difference(after, before, _limits(before.dtype), now="after", then="before")
        fail(f"{what} moved when {when}", hint, found)


def moved(before: object, after: object, *, what: str, when: str, hint: str = "") -> None:
    """Hold that ``what`` changed ``when`` something changed that it must depend on.

    Raises:
        AssertionError: "``what`` did not move when ``when``", or that it became NaN.
    """
    if _same(before, after, what, hint):
        fail(f"{what} did not move when {when}", hint)
    if bool(after.isnan().any()):
        broken = f"{int(after.isnan().sum())} of {after.numel()} numbers"
        fail(f"{what} became NaN in {broken} when {when}", hint)


@contextmanager
def unchanged(**arguments: Tensor) -> Iterator[None]:
    """Hold that the calls inside write to none of these arguments.

    Raises:
        AssertionError: naming the argument that changed.
    """
    before = {name: x.detach().clone() for name, x in arguments.items()}
    yield
    for name, old in before.items():
        if not _near(arguments[name], old, (0.0, 0.0)):
            look = "look for +=, x[...] = … and methods ending in _ such as masked_fill_"
            fail(f"your code changed its argument {name} in place", look)


def _require_tensor(x: object, what: str, hint: str, expected: Tensor | None = None) -> None:
    if x is None:
        fail(f"{what} is None: is `return` missing?", hint)
    if not isinstance(x, Tensor):
        wanted = "" if expected is None else f" of shape {tuple(expected.shape)}"
        fail(f"{what} is a {type(x).__name__} but should be a tensor{wanted}", hint)


def _same(before: object, after: object, what: str, hint: str) -> bool:
    _require_tensor(before, what, hint)
    shape(after, before.shape, what=what, hint=hint)
    if bool(before.isnan().any()):
        fail(f"{what} holds NaN in {int(before.isnan().sum())} of {before.numel()} numbers", hint)
    return _near(after, before, _limits(before.dtype))


def _limits(
    dtype: torch.dtype, rtol: float | None = None, atol: float | None = None
) -> tuple[float, float]:
    default = TOLERANCE.get(dtype, 0.0)
    return default if rtol is None else rtol, default if atol is None else atol


def _near(x: Tensor, y: Tensor, limits: tuple[float, float]) -> bool:
    if x.dtype == y.dtype and x.device == y.device and torch.equal(x, y):
        return True  # to the last bit, as most are: seen sooner than how near they are
    return x.shape == y.shape and not bool(_wrong(x, y, limits).any())


def _wrong(x: Tensor, y: Tensor, limits: tuple[float, float]) -> Tensor:
    x, y = x.detach().double(), y.detach().double()
    return ~torch.isclose(x, y.to(x.device), *limits, equal_nan=True)


def _difference(
    actual: Tensor,
    expected: Tensor,
    limits: tuple[float, float],
    now: str = "yours",
    then: str = "expected",
) -> str:
    """First wrong index, both numbers, the largest error; the shapes where they differ."""
    if actual.shape != expected.shape:
        return f"shape {tuple(actual.shape)}, but should be {tuple(expected.shape)}"
    wrong = _wrong(actual, expected, limits)
    where = tuple(wrong.nonzero()[0].tolist())
    first, should = (_number(x.detach()[where].item()) for x in (actual, expected))
    counted = f"{int(wrong.sum())} of {wrong.numel()} numbers differ"
    error = (actual.detach().double() - expected.detach().double()).abs()
    if expected.is_floating_point() and bool(error.isfinite().all()):
        counted += f", the largest by {error.max().item():.3g}"
    place = f"first at {list(where)}: {now} {first}, {then} {should}"
    return f"{place}\n  {counted}; shape {tuple(actual.shape)}"


def _near_number(x: int | float, y: int | float, rtol: float) -> bool:
    return math.isclose(x, y, rel_tol=rtol, abs_tol=rtol / 10)


def _number(x: float | int | bool) -> str:
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def message(told: str, hint: str = "", details: str = "") -> str:
    """What is wrong, where to look, the numbers: a line each."""
    hint = hint and f"hint: {hint}"
    return "\n  ".join(line for line in (told, hint, details) if line)


def fail(told: str, hint: str = "", details: str = "") -> NoReturn:
    """Raise the assertion with this message."""
    raise AssertionError(message(told, hint, details))

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
:func:`case`       says with which inputs a check failed, also where the code stopped by itself
:func:`given`      the reference under a student's name, so that each task is graded on its own
:func:`ban`        what an exercise wants written, not called
=================  ==============================================================================

The module knows no model: expected values come from the check that calls it.
"""

from __future__ import annotations

import functools
import math
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
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
        _fail(f"{what} is on {actual.device} but should be on {expected.device}", hint)
    limits = _limits(expected.dtype, rtol, atol)
    right = _near(actual, expected, limits)
    if not right:
        for diagnosis, wrong in (suspects or {}).items():
            if _near(actual, wrong, limits):
                _fail(f"{what}: {diagnosis}", hint, _difference(actual, expected, limits))
    shape(actual, expected.shape, what=what, hint=hint)
    if actual.dtype != expected.dtype:
        _fail(f"{what} has dtype {actual.dtype} but should have {expected.dtype}", hint)
    if right:
        return
    told = f"{what} has wrong numbers"
    if bool((actual.isnan() & ~expected.isnan()).any()):
        told = f"{what} holds NaN in {int(actual.isnan().sum())} of {actual.numel()} numbers"
    _fail(told, hint, _difference(actual, expected, limits))


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
        _fail(f"{what} is None: is `return` missing?", hint)
    if not isinstance(actual, int | float):
        many = f" of shape {tuple(actual.shape)}" if isinstance(actual, Tensor) else ""
        _fail(f"{what} is a {type(actual).__name__}{many} but should be one number", hint)
    found = f"yours {_number(actual)}, expected {_number(expected)}"
    if _near_number(actual, expected, rtol):
        return
    for diagnosis, wrong in (suspects or {}).items():
        if _near_number(actual, wrong, rtol):
            _fail(f"{what}: {diagnosis}", hint, found)
    _fail(f"{what} is not the right number", hint, found)


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
    _fail(f"{what} has shape {found} but should have {expected}{guess}", hint)


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
        _fail(f"no gradient flows back from {what}: {cut}", hint)
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(expected.shape, generator=generator, dtype=expected.dtype)
    upstream, leaves = upstream.to(expected.device), tuple(inputs.values())
    mine = torch.autograd.grad(actual, leaves, upstream, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, upstream, allow_unused=True)
    for (name, leaf), got, want in zip(inputs.items(), mine, wanted, strict=True):
        want = torch.zeros_like(leaf) if want is None else want
        if got is None and bool(want.any()):
            _fail(f"no gradient of {what} reaches {name}: is {name} used, and not detached?", hint)
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
        _fail(f"{what} moved when {when}", hint, found)


def moved(before: object, after: object, *, what: str, when: str, hint: str = "") -> None:
    """Hold that ``what`` changed ``when`` something changed that it must depend on.

    Raises:
        AssertionError: "``what`` did not move when ``when``".
    """
    if _same(before, after, what, hint):
        _fail(f"{what} did not move when {when}", hint)


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
            _fail(f"your code changed its argument {name} in place", look)


@contextmanager
def case(inputs: str, hint: str = "") -> Iterator[None]:
    """Say with which inputs a check failed, and turn an error of the code into a diagnosis.

    Args:
        inputs: what is special about them, as "a float16 mask"; it ends the sentence "your code
            stopped on …".
        hint: where to look if the code stops.

    Raises:
        AssertionError: the failed assertion with the inputs named, or the error that stopped the
            code. The error of an unwritten answer passes as it is.
    """
    try:
        yield
    except NotImplementedError:
        raise
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n  seen with {inputs}") from None
    except Exception as error:
        lines = _message(f"your code stopped on {inputs}", hint, f"{type(error).__name__}: {error}")
        raise AssertionError(lines) from error


def given(**replacements: object) -> AbstractContextManager[None]:
    """Put reference functions under the students' names while a check runs.

    A mistake in one task then costs nothing in the tasks that build on it. The names change in
    the namespace of the caller, which is the notebook's, and come back afterwards, also after an
    error. Where that namespace holds a callable ``__given__`` (a grading engine that keeps the
    student's code elsewhere), the replacements, a dict, are handed to it, and the context manager
    that it returns is used.

    Args:
        replacements: reference functions by the names they stand in for.
    """
    namespace = _calling_namespace()
    elsewhere = namespace.get("__given__")
    return elsewhere(replacements) if callable(elsewhere) else _replaced(namespace, replacements)


def ban(*names: str) -> None:
    """Declare what an exercise wants written, not called.

    Functions and classes of torch then raise when the notebook's own code (``__main__``) calls
    them, and work as before for everyone else, the library included. Names of this library are
    declared only: a check needs them as its reference, and a grading engine runs the student's
    cells where those modules do not exist. It reads the names from the call, so they are literal.

    Args:
        names: dotted names, as ``"torch.nn.functional.scaled_dot_product_attention"``.

    Raises:
        ValueError: if torch has nothing of that name.
    """
    for name in (name for name in names if name.startswith("torch.")):
        place, _, attribute = name.rpartition(".")
        try:
            owner = pkgutil.resolve_name(place)
            banned = getattr(owner, attribute)
        except (ImportError, AttributeError):
            raise ValueError(f"cannot ban {name!r}: torch has nothing of that name") from None
        if isinstance(banned, type):  # its subclasses are built through the same method
            owner, attribute, banned = banned, "__init__", banned.__init__
        if not hasattr(banned, "banned_as"):
            setattr(owner, attribute, _stand_in(banned, name))


def _calling_namespace() -> dict[str, object]:
    """The globals of whoever called into this module."""
    frame = sys._getframe()
    # run-time type checking puts frames of its own around every function
    while frame.f_globals.get("__name__") in (__name__, "jaxtyping._decorator"):
        frame = frame.f_back
    return frame.f_globals


def _stand_in(banned: Callable[..., object], name: str) -> Callable[..., object]:
    @functools.wraps(banned)
    def stand_in(*args, **kwargs):
        if _calling_namespace().get("__name__") == "__main__":
            raise RuntimeError(
                f"{name} is banned in this exercise, because it is what the exercise is about: "
                "write it yourself"
            )
        return banned(*args, **kwargs)

    stand_in.banned_as = name
    return stand_in


@contextmanager
def _replaced(namespace: dict[str, object], replacements: Mapping[str, object]) -> Iterator[None]:
    before = {name: namespace[name] for name in replacements if name in namespace}
    namespace.update(replacements)
    try:
        yield
    finally:
        for name in replacements:
            namespace.pop(name, None)
        namespace.update(before)


def _require_tensor(x: object, what: str, hint: str, expected: Tensor | None = None) -> None:
    if x is None:
        _fail(f"{what} is None: is `return` missing?", hint)
    if not isinstance(x, Tensor):
        wanted = "" if expected is None else f" of shape {tuple(expected.shape)}"
        _fail(f"{what} is a {type(x).__name__} but should be a tensor{wanted}", hint)


def _same(before: object, after: object, what: str, hint: str) -> bool:
    _require_tensor(before, what, hint)
    shape(after, before.shape, what=what, hint=hint)
    if bool(before.isnan().any()):
        _fail(f"{what} holds NaN in {int(before.isnan().sum())} of {before.numel()} numbers", hint)
    return _near(after, before, _limits(before.dtype))


def _limits(
    dtype: torch.dtype, rtol: float | None = None, atol: float | None = None
) -> tuple[float, float]:
    default = TOLERANCE.get(dtype, 0.0)
    return default if rtol is None else rtol, default if atol is None else atol


def _near(x: Tensor, y: Tensor, limits: tuple[float, float]) -> bool:
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


def _message(told: str, hint: str = "", details: str = "") -> str:
    hint = hint and f"hint: {hint}"
    return "\n  ".join(line for line in (told, hint, details) if line)


def _fail(told: str, hint: str = "", details: str = "") -> NoReturn:
    raise AssertionError(_message(told, hint, details))

"""Assertions for exercises: each failure says what is wrong and where to look.

A check calls the student's function and hands the result to one of these. A failure is an
``AssertionError`` of a few plain lines, the diagnosis in the first one.

=================  ==============================================================================
:func:`close`      the right numbers, or the known mistake that explains the wrong ones
:func:`shape`      the right shape, or what is wrong with it
:func:`gradients`  the right gradients by one backward pass
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
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

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
    suspects: Mapping[str, Tensor | Callable[[], Tensor]] | None = None,
    hint: str = "",
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Compare a student's tensor with the expected one: shape, dtype, device, every number.

    Args:
        actual: what the student's code returned, whatever it is.
        expected: what it should be.
        what: a name for it that starts the message, as "the output".
        suspects: by diagnosis, what a known mistake would have returned (or a function that
            computes it); the first that equals ``actual`` leads the message.
        hint: where to look; the last line of the message.
        rtol: relative tolerance; by the dtype of ``expected`` when left out.
        atol: absolute tolerance; likewise.

    Raises:
        AssertionError: the diagnosis, the first wrong index, both numbers there, the largest error.
    """
    _require_tensor(actual, what, hint, tuple(expected.shape))
    near = functools.partial(_near, dtype=expected.dtype, rtol=rtol, atol=atol)
    right = actual.shape == expected.shape and bool(near(actual, expected).all())
    if not right:
        for diagnosis, wrong in (suspects or {}).items():
            wrong = wrong() if callable(wrong) else wrong
            if wrong.shape == actual.shape and bool(near(actual, wrong).all()):
                _fail(f"{what}: {diagnosis}", _difference(actual, expected, near), hint)
    shape(actual, expected.shape, what=what, hint=hint)
    if actual.dtype != expected.dtype:
        _fail(f"{what} has dtype {actual.dtype} but should have {expected.dtype}", hint)
    if actual.device != expected.device:
        _fail(f"{what} is on {actual.device} but should be on {expected.device}", hint)
    if right:
        return
    if bool((actual.isnan() & ~expected.isnan()).any()):
        count = f"{int(actual.isnan().sum())} of {actual.numel()} numbers"
        _fail(f"{what} holds NaN in {count}", _difference(actual, expected, near), hint)
    _fail(f"{what} has wrong numbers", _difference(actual, expected, near), hint)


def shape(actual: object, expected: tuple[int, ...], *, what: str, hint: str = "") -> None:
    """Compare the shape alone.

    Raises:
        AssertionError: both shapes, and what may have happened between them.
    """
    expected = tuple(expected)
    _require_tensor(actual, what, hint, expected)
    found = tuple(actual.shape)
    if found == expected:
        return
    guess = ""
    if len(found) != len(expected):
        guess = f": {len(found)} axes instead of {len(expected)}"
    elif len(found) > 1 and found == (*expected[:-2], expected[-1], expected[-2]):
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
    upstream = upstream.to(expected.device)
    leaves = tuple(inputs.values())
    mine = torch.autograd.grad(actual, leaves, upstream, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, upstream, allow_unused=True)
    for name, got, want in zip(inputs, mine, wanted, strict=True):
        want = torch.zeros_like(inputs[name]) if want is None else want
        if got is None and bool(want.any()):
            _fail(f"no gradient of {what} reaches {name}: is {name} used, and not detached?", hint)
        got = torch.zeros_like(want) if got is None else got
        name = f"the gradient of {what} with respect to {name}"
        close(got, want, what=name, hint=hint, rtol=rtol, atol=atol)


def unmoved(before: object, after: object, *, what: str, when: str, hint: str = "") -> None:
    """Hold that ``what`` stayed the same ``when`` something changed that it may not depend on.

    Raises:
        AssertionError: "``what`` moved when ``when``", with the first place and both numbers.
    """
    _compare_runs(before, after, what, hint)
    near = functools.partial(_near, dtype=before.dtype, rtol=None, atol=None)
    if not bool(near(after, before).all()):
        found = _difference(after, before, near, now="after", then="before")
        _fail(f"{what} moved when {when}", found, hint)


def moved(before: object, after: object, *, what: str, when: str, hint: str = "") -> None:
    """Hold that ``what`` changed ``when`` something changed that it must depend on.

    Raises:
        AssertionError: "``what`` did not move when ``when``".
    """
    _compare_runs(before, after, what, hint)
    if bool(_near(after, before, before.dtype, None, None).all()):
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
        new = arguments[name].detach()
        if new.shape != old.shape or not bool(_near(new, old, old.dtype, 0.0, 0.0).all()):
            look = "look for +=, x[...] = … and methods ending in _ such as masked_fill_"
            _fail(f"your code changed its argument {name} in place: {look}")


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
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        lines = [f"your code stopped on {inputs}", f"  {reason}", *_hint(hint)]
        raise AssertionError("\n".join(lines)) from error


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
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    elsewhere = frame.f_globals.get("__given__")
    if callable(elsewhere):
        return elsewhere(replacements)
    return _replaced(frame.f_globals, replacements)


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
    for name in names:
        if not name.startswith("torch."):
            continue
        place, _, attribute = name.rpartition(".")
        try:
            owner = pkgutil.resolve_name(place)
            banned = getattr(owner, attribute)
        except (ImportError, AttributeError):
            raise ValueError(f"cannot ban {name!r}: torch has nothing of that name") from None
        if isinstance(banned, type):  # its subclasses are built through the same method
            owner, attribute, banned = banned, "__init__", banned.__init__
        if not getattr(banned, "_banned", False):
            setattr(owner, attribute, _stand_in(banned, name))


# A type checker may put its own frame around every function here.
_BETWEEN = (__name__, "jaxtyping._decorator")


def _stand_in(banned: Callable[..., object], name: str) -> Callable[..., object]:
    @functools.wraps(banned)
    def stand_in(*args, **kwargs):
        if sys._getframe(1).f_globals.get("__name__") == "__main__":
            raise RuntimeError(
                f"{name} is banned in this exercise, because it is what the exercise is about: "
                "build the answer from products, sums, softmax and masks"
            )
        return banned(*args, **kwargs)

    stand_in._banned = True
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


def _require_tensor(x: object, what: str, hint: str, expected: tuple[int, ...]) -> None:
    if x is None:
        _fail(f"{what} is None: is `return` missing?", hint)
    if not isinstance(x, Tensor):
        kind = type(x).__name__
        _fail(f"{what} is a {kind} but should be a tensor of shape {expected}", hint)


def _compare_runs(before: object, after: object, what: str, hint: str) -> None:
    _require_tensor(before, what, hint, ())
    shape(after, before.shape, what=what, hint=hint)


def _near(
    x: Tensor, y: Tensor, dtype: torch.dtype, rtol: float | None, atol: float | None
) -> Tensor:
    default = TOLERANCE.get(dtype, 0.0)
    return torch.isclose(
        x.detach().double(),
        y.detach().double().to(x.device),
        rtol=default if rtol is None else rtol,
        atol=default if atol is None else atol,
        equal_nan=True,
    )


def _difference(
    actual: Tensor,
    expected: Tensor,
    near: Callable[[Tensor, Tensor], Tensor],
    now: str = "yours",
    then: str = "expected",
) -> str:
    """First wrong index, both numbers, the largest error; empty where the shapes differ."""
    if actual.shape != expected.shape:
        return f"  shape {tuple(actual.shape)}, but should be {tuple(expected.shape)}"
    wrong = ~near(actual, expected)
    where = wrong.nonzero()[0].tolist() if wrong.ndim else []
    first, should = actual[tuple(where)].item(), expected[tuple(where)].item()
    lines = [f"  first at {where}: {now} {_number(first)}, {then} {_number(should)}"]
    counted = f"{int(wrong.sum())} of {wrong.numel()} numbers differ"
    error = (actual.detach().double() - expected.detach().double()).abs()
    if bool(error.isfinite().all()):
        counted += f", the largest by {error.max().item():.3g}"
    return "\n".join([*lines, f"  {counted}; shape {tuple(actual.shape)}"])


def _number(x: float | int | bool) -> str:
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def _hint(hint: str) -> list[str]:
    return [f"  hint: {hint}"] if hint else []


def _fail(*parts: str) -> None:
    headline, *details = (part for part in parts if part)
    if details and not details[-1].startswith("  "):
        details = [*details[:-1], *_hint(details[-1])]
    raise AssertionError("\n".join([headline, *details]))

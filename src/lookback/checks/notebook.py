"""The surroundings of a check: which inputs it is at, what stands in for what, what is closed."""

from __future__ import annotations

import functools
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from lookback.checks.comparing import message


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
        told = message(f"your code stopped on {inputs}", hint, f"{type(error).__name__}: {error}")
        raise AssertionError(told) from error


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
    namespace = calling_namespace()
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


def calling_namespace() -> dict[str, object]:
    """The globals of whoever called into this package."""
    frame = sys._getframe()
    # run-time type checking puts frames of its own around every function
    while str(frame.f_globals.get("__name__")).startswith((__package__, "jaxtyping._decorator")):
        frame = frame.f_back
    return frame.f_globals


def _stand_in(banned: Callable[..., object], name: str) -> Callable[..., object]:
    @functools.wraps(banned)
    def stand_in(*args, **kwargs):
        if calling_namespace().get("__name__") == "__main__":
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

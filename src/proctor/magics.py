"""Cells as plain Python: the notebook's own commands taken out, line by line.

Students leave ``%matplotlib inline``, ``files = !ls`` or ``display(x)`` in their cells. Graded code
runs without a notebook, where such a line would stop the whole cell.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any

# of these, the rest of the cell is Python all the same
_WRAPPERS = ("time", "timeit", "capture", "prun", "python", "python3")
_COMMAND = re.compile(r"^(\s*)(?:[%!]|\?+\w)|^(\s*)\w[\w.]*\?{1,2}\s*$")
_ASSIGNED = re.compile(r"^(\s*[^\s=%!#][^=%!#]*=\s*)([%!])")
_GIVES = {"%": "None", "!": "[]"}


@functools.lru_cache(maxsize=256)  # a cell is looked at several times in one submission
def without_magics(source: str) -> str:
    """A cell without the notebook's commands, every line keeping its number.

    Python is never touched: a cell that parses, or that does not parse without its commands either,
    comes back as it is.
    """
    lines = source.split("\n")
    for number, line in enumerate(lines):
        command = line.split()[0] if line.strip() else ""
        if command.startswith("%%"):
            if command[2:] not in _WRAPPERS:
                return "\n" * (len(lines) - 1)  # another language
            lines[number] = ""
        elif command:
            break
    source = "\n".join(lines)
    if _parses(source):
        return source
    plain = "\n".join(_without_commands(lines))
    return plain if _parses(plain) else source


def _without_commands(lines: list[str]) -> Iterator[str]:
    goes_on = False  # whether the line before was a command that ended in a backslash
    for line in lines:
        match, assigned = _COMMAND.match(line), _ASSIGNED.match(line)
        if goes_on:
            yield ""
        elif match:
            yield f"{match.group(1) or match.group(2) or ''}pass"
        elif assigned:
            yield assigned.group(1) + _GIVES[assigned.group(2)]
        else:
            yield line
        goes_on = bool(goes_on or match or assigned) and line.endswith("\\")


class Shell:
    """What ``get_ipython()`` gives where there is no notebook: whatever is asked of it is done.

    It is its own every attribute, item and result, and there is nothing in it.
    """

    def __getattr__(self, name: str) -> Shell:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Shell:
        return self

    def __getitem__(self, key: Any) -> Shell:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False


def notebook_names() -> dict[str, Any]:
    """What a notebook defines beside Python's own names: ``display`` and ``get_ipython``."""
    shell = Shell()
    return {"display": _display, "get_ipython": lambda: shell}


def _display(*values: Any, **options: Any) -> None:
    for value in values:
        print(repr(value))


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True

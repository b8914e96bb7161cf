"""Cells as plain Python: the notebook's own commands taken out, line by line.

Students leave ``%matplotlib inline``, ``%%time`` or ``!pip install`` in their cells. Graded code
runs without a notebook, where such a line would stop the whole cell.
"""

from __future__ import annotations

import ast
import functools
import re

# of these, the rest of the cell is Python all the same
_WRAPPERS = ("time", "timeit", "capture", "prun", "python", "python3")
_COMMAND = re.compile(r"^(\s*)(?:[%!]|\?+\w)|^(\s*)\w[\w.]*\?{1,2}\s*$")


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
    plain = "\n".join(_without_command(line) for line in lines)
    return plain if _parses(plain) else source


def _without_command(line: str) -> str:
    match = _COMMAND.match(line)
    return f"{match.group(1) or match.group(2) or ''}pass" if match else line


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True

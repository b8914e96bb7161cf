"""Which files of the library a piece of code depends on, however deep."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fingerprint(sources: Iterable[str], reads: Iterable[str] = ()) -> str:
    """Hash of everything that running ``sources`` depends on.

    Args:
        sources: Python source, cell by cell.
        reads: further files that it reads, relative to the repository.

    Returns:
        Hexadecimal digest of the sources, the library modules they import directly or through
        another one, the files they read, the pinned dependencies and the Python version.
    """
    sources = list(sources)
    digest = hashlib.sha256(sys.version.encode())
    for source in sources:
        digest.update(source.encode())
    modules = imported("\n".join(sources))
    for path in [*modules, *(ROOT / name for name in reads), ROOT / "requirements.txt"]:
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def imported(source: str) -> list[Path]:
    """Files of ``src/lookback`` that ``source`` imports, directly or through another one."""
    found: set[Path] = set()
    waiting = _named(source)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            waiting |= _named(path.read_text("utf-8"))
            waiting |= set(path.parent.glob("*.toml"))  # data that the package carries
    return sorted(found)


def _named(source: str) -> set[Path]:
    """Library modules that a piece of source names: in an import, or in a string."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(_without_magics(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # a module that is loaded by its name
    files: set[Path] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "lookback" or not all(part.isidentifier() for part in parts):
            continue
        for depth in range(1, len(parts) + 1):
            base = ROOT.joinpath("src", *parts[:depth])
            files |= {p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()}
    return files


def _without_magics(source: str) -> str:
    """A cell's source without IPython's magics, so that it parses."""
    return "\n".join("" if line.startswith(("%", "!")) else line for line in source.splitlines())

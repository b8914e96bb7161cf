"""What an exercise wants written, not called: read from its setup cell, refused where named.

The setup cell says ``checks.ban("torch.nn.functional.name", "library.module", …)`` with literal
names. A cell that names one of them does not run; :mod:`proctor.taken_away` takes them from the
candidate.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def declared(setup: str) -> tuple[str, ...]:
    """The names that a setup cell bans.

    Raises:
        ValueError: if a name is not written out as a string.
    """
    names: list[str] = []
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.Call) and _dotted(node.func, {}) in ("checks.ban", "ban"):
            for argument in node.args:
                if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                    raise ValueError(f"line {node.lineno}: a banned name must be a plain string")
                names.append(argument.value)
    return tuple(names)


def named_in(source: str, banned: Iterable[str]) -> list[tuple[str, int]]:
    """Banned names that a cell uses, with the line; nothing where the cell is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    banned = tuple(banned)
    enough = max(map(len, banned), default=0) + 1  # characters that tell a name from all of these
    aliases = {"F": "torch.nn.functional", "nn": "torch.nn", "torch": "torch"}
    aliases |= _aliases(tree, enough)
    chains = [n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    inner = {id(n) for n in chains if isinstance(n, ast.Attribute)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue  # a chain is read once, from its end: from each of its dots takes too long
        for name in _names(node, aliases, enough):
            found |= {
                (ban, node.lineno) for ban in banned if name == ban or name.startswith(ban + ".")
            }
    return sorted(found, key=lambda item: item[1])


def imported_in(sources: Iterable[str], banned: Iterable[str]) -> tuple[str, ...]:
    """Modules that some cells import, banned ones left out: worth having before a fork."""
    names: dict[str, None] = {}
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= dict.fromkeys(item.name for item in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= dict.fromkeys(
                    [node.module, *(f"{node.module}.{item.name}" for item in node.names)]
                )
    banned = tuple(banned)
    return tuple(n for n in names if not any(f"{n}.".startswith(f"{b}.") for b in banned))


def library_folders(modules: Iterable[str]) -> tuple[str, ...]:
    """Folders of those modules' packages that lie outside the interpreter's own."""
    inside = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    folders: dict[str, None] = {}
    for name in modules:
        spec = _spec(name.partition(".")[0])
        if spec is None or not spec.origin or not spec.has_location:
            continue
        origin = Path(spec.origin)
        place = str(origin.parent if spec.submodule_search_locations else origin)
        if not any(place.startswith(root + os.sep) for root in inside):
            folders[place] = None
    return tuple(folders)


def hidden_files(banned: Iterable[str]) -> tuple[str, ...]:
    """Files and folders of the modules among the banned names, compiled ones too."""
    places: list[str] = []
    for name in banned:
        spec = _spec(name)
        if spec is None or name.partition(".")[0] == "torch":
            continue
        if spec.submodule_search_locations:
            places += spec.submodule_search_locations
        elif spec.origin:
            places += [spec.origin, importlib.util.cache_from_source(spec.origin)]
    return tuple(places)


def modules_among(banned: Iterable[str]) -> tuple[str, ...]:
    """Those of the banned names that are modules of a library."""
    return tuple(n for n in banned if n.partition(".")[0] != "torch" and _spec(n))


def refusal(name: str) -> str:
    """What a student reads who uses a banned name."""
    return (
        f"{name} is banned in this exercise, because it is what the exercise is about: "
        "write it yourself"
    )


def resolved(name: str) -> Any:
    """What a dotted name stands for; None where there is nothing of that name."""
    parts = name.split(".")
    for i in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:i]))
            for part in parts[i:]:
                value = getattr(value, part)
        except (ImportError, AttributeError):
            continue
        return value
    return None


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _aliases(tree: ast.AST, enough: int) -> dict[str, str]:
    """What names stand for, as many characters of it as are enough."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                aliases[item.asname or item.name.partition(".")[0]] = (
                    item.name if item.asname else item.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for item in node.names:
                aliases[item.asname or item.name] = f"{node.module[:enough]}.{item.name}"
    return {name: full[:enough] for name, full in aliases.items()}


def _names(node: ast.AST, aliases: dict[str, str], enough: int) -> list[str]:
    """Full dotted names that one node imports or reads, or as many characters as are enough."""
    if isinstance(node, ast.Import):
        return [item.name for item in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        module = node.module[:enough]
        return [module, *(f"{module}.{item.name}" for item in node.names)]
    if isinstance(node, ast.Attribute):
        return [_dotted(node, aliases)]
    if isinstance(node, ast.Call) and len(node.args) >= 2 and _dotted(node.func, {}) == "getattr":
        owner, attribute = _dotted(node.args[0], aliases), node.args[1]
        if isinstance(attribute, ast.Constant) and owner:
            return [f"{owner}.{attribute.value}"]
    return []


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([aliases.get(node.id, node.id), *reversed(parts)])

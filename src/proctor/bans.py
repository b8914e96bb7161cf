"""What an exercise wants written, not called: read from its setup cell, refused, and taken away.

The setup cell says ``checks.ban("torch.nn.functional.name", "library.module", …)`` with literal
names. A cell that names one of them does not run. In the candidate a function of torch raises
under every name it has there, down to torch's own table of operations, and modules of a library
do not exist.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

_LIBRARY: list[Any] = []


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


def install(banned: Iterable[str]) -> None:
    """Take the banned names away in this process."""
    banned = tuple(banned)
    modules = [name for name in banned if _spec(name) and name.partition(".")[0] != "torch"]
    for name in [*sys.modules]:
        if any(name == module or name.startswith(module + ".") for module in modules):
            del sys.modules[name]
    if modules:
        sys.meta_path.insert(0, _Absent(modules))
    for name in banned:
        if name not in modules:
            _take_away(name)


class _Absent(importlib.abc.MetaPathFinder):
    """Says of modules that hold the answer that they are not there."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if any(fullname == name or fullname.startswith(name + ".") for name in self.names):
            raise ModuleNotFoundError(
                f"{fullname} holds the answer to this exercise and is not there: write it yourself",
                name=fullname,
            )


def refusal(name: str) -> str:
    """What a student reads who uses a banned name."""
    return (
        f"{name} is banned in this exercise, because it is what the exercise is about: "
        "write it yourself"
    )


def _take_away(name: str) -> None:
    def stand_in(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(refusal(name))

    stand_in.__name__ = name.rpartition(".")[2]
    banned = _resolve(name)
    if banned is not None:
        for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "torch"]:
            for key, value in list(getattr(module, "__dict__", {}).items()):
                if value is banned:
                    setattr(module, key, stand_in)
        if isinstance(banned, type):
            banned.__init__ = stand_in
    _take_away_operations(name, stand_in)


def _take_away_operations(name: str, stand_in: Any) -> None:
    """Override the operations of torch's dispatcher that a name leads to.

    ``F.some_op`` and ``SomeOp`` both lead to every operation whose name holds the words some, op
    in that order; gradients of these are left alone.
    """
    import torch  # here, since the driver reads names and needs no torch

    last = name.rpartition(".")[2]
    words = [w for w in re.split(r"_|(?<=[a-z])(?=[A-Z])", last) if w]
    pattern = re.compile(".*".join(re.escape(w.lower()) for w in words))
    one = last.replace("_", "").lower() if len(words) == 1 else None
    if not _LIBRARY:
        _LIBRARY.append(torch.library.Library("aten", "IMPL"))
    for full in torch._C._dispatch_get_all_op_names():
        space, _, op = full.partition("::")
        plain = op.partition(".")[0].replace("_", "")
        # a single common word names one operation, not all that contain it
        meant = plain == one if one else pattern.search(plain)
        if space != "aten" or "backward" in op or not meant:
            continue
        for key in ("CPU", "AutogradCPU"):
            with contextlib.suppress(RuntimeError):
                _LIBRARY[0].impl(op, stand_in, key)


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _resolve(name: str) -> Any:
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

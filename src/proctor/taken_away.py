"""What an exercise bans, taken away in the process that forks the candidates, for good.

Whatever bears a banned name stops with the reason, wherever it is reached from:

- An operation of torch, at every key of its dispatcher. The registration belongs to no object that
  Python could find, so none can lift it.
- A function or class of torch that is written in Python, by its code, so that every alias, table
  of decompositions and wrapper that holds it holds nothing; a module that is imported later too.
- A module of a library does not exist.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.abc
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from proctor import bans

# all of torch written once more, for another runtime; its names are its own
ELSEWHERE = ("torch.onnx",)
# runs a graph by calling kernels themselves, past the dispatcher
PAST = ("StaticModule", "_jit_to_static_module", "_fuse_to_static_module")
NO_PLACE = ("Undefined", "StartOf", "EndOf")  # of the dispatcher's keys


def install(banned: Iterable[str]) -> None:
    """Take the banned names away in this process."""
    banned = tuple(banned)
    if not banned:
        return
    modules = [*bans.modules_among(banned), *ELSEWHERE]
    for name in [*sys.modules]:
        if _below(name, modules):
            del sys.modules[name]
    things = [_Thing(name) for name in banned if name not in modules]
    for thing in things:
        thing.resolve()
    gc.unfreeze()  # what is frozen is not found
    _take_from(gc.get_objects(), things)
    gc.freeze()
    _take_operations(things)
    sys.meta_path.insert(0, _Watch(modules, things))


class _Thing:
    """A banned function or class, and what else its name leads to.

    ``F.some_op`` and ``SomeOp`` both lead to every name that holds the words some, op in that
    order. A single common word leads to the names that are this word, or have it between
    underscores. Gradients are left alone.
    """

    def __init__(self, name: str) -> None:
        self.name, self.last = name, name.rpartition(".")[2]
        words = [w.lower() for w in re.split(r"_|(?<=[a-z])(?=[A-Z])", self.last) if w]
        self.word = words[0] if len(words) == 1 else None
        self.pattern = re.compile(".*".join(map(re.escape, words)))
        self.itself: Any = None
        self.said = bans.refusal(name)

    def resolve(self) -> None:
        """Find what the name stands for, and put what stops in its place."""
        self.itself = bans.resolved(self.name)
        if self.itself is None or isinstance(self.itself, type):
            return
        for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "torch"]:
            for key, value in list(getattr(module, "__dict__", {}).items()):
                if value is self.itself:
                    setattr(module, key, self.stand_in())

    def leads_to(self, name: str) -> bool:
        """Whether a function, class or operation of torch is meant."""
        name = name.lower()
        plain = name.replace("_", "")
        if "backward" in plain:
            return False
        if self.word:
            return plain == self.word or self.word in name.split("_")
        return bool(self.pattern.search(plain))

    def stand_in(self) -> Callable[..., Any]:
        """A function in the place of a banned one."""
        space: dict[str, Any] = {}
        exec(f"def {self.last}(*args, **kwargs): raise RuntimeError({self.said!r})", space)
        return space[self.last]


def _take_from(objects: Iterable[Any], things: list[_Thing]) -> None:
    """Take the code of torch's functions and classes that are meant."""
    for value in objects:
        if type(value) is types.FunctionType:
            home = str(value.__module__)
            if home.partition(".")[0] == "torch":
                for thing in things:
                    # a module that bears the name is about nothing else
                    of_it = thing.word is None and thing.leads_to(home.rpartition(".")[2])
                    if of_it or thing.leads_to(value.__name__):
                        _empty(value, thing)
                        break
        elif issubclass(type(value), type) and str(value.__module__).partition(".")[0] == "torch":
            for thing in things:
                layer = "Module" in (base.__name__ for base in value.__mro__)
                if value is thing.itself or (layer and thing.leads_to(value.__name__)):
                    for part in [f for f in vars(value).values() if type(f) is types.FunctionType]:
                        _empty(part, thing)
                    value.__init__ = thing.stand_in()
                    break


def _empty(function: types.FunctionType, thing: _Thing) -> None:
    """Give a function the code of what stops instead of its own."""
    code = thing.stand_in().__code__
    function.__code__ = code.replace(co_freevars=function.__code__.co_freevars)


def _take_operations(things: list[_Thing]) -> None:
    """Override operations of torch's dispatcher at every key, and take what passes it by."""
    import torch  # here, since the driver reads names and needs no torch

    for name in PAST:
        if hasattr(torch._C, name):
            delattr(torch._C, name)
    keys = [k for k in torch._C.DispatchKey.__members__ if not k.startswith(NO_PLACE)]
    library = torch._C._dispatch_library("IMPL", "aten", "", __file__, 1)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))  # it outlives every name for it
    for full in torch._C._dispatch_get_all_op_names():
        space, _, operation = full.partition("::")
        plain = operation.partition(".")[0]
        thing = next((t for t in things if t.leads_to(plain)), None)
        if space != "aten" or thing is None:
            continue
        stops = thing.stand_in()
        for key in keys:
            with contextlib.suppress(RuntimeError):  # a key of another build
                library.impl(operation, key, stops, False)


class _Watch(importlib.abc.MetaPathFinder):
    """Says of some modules that they are not there, and looks at every other one of torch."""

    def __init__(self, absent: list[str], things: list[_Thing]) -> None:
        self.absent, self.things = absent, things

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if _below(name, self.absent):
            raise ModuleNotFoundError(
                f"{name} holds the answer to this exercise and is not there: write it yourself",
                name=name,
            )
        if name.partition(".")[0] != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            load, things = spec.loader.exec_module, self.things

            def exec_module(module: types.ModuleType) -> None:
                load(module)
                found = list(vars(module).values())
                inside = [vars(c).values() for c in found if isinstance(c, type)]
                _take_from([*found, *(f for parts in inside for f in parts)], things)

            spec.loader.exec_module = exec_module
        return spec


def _below(name: str, modules: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)

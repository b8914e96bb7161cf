"""Which objects of one side the other may speak of, and how they cross.

An object that is no plain data stays where it is; a number crosses instead, and on the other side
something stands in for it (:mod:`proctor.standins`). Coming back, the number is the object again.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import torch
from torch import nn

from proctor import standins
from proctor.link import Handler, Link, Served, of
from proctor.standins import Far, Remote, RemoteMethod, RemoteModule
from proctor.values import Packer, Unpacker
from proctor.wire import Channel, Refused, WireError


class Objects(Link):
    """One end of a channel, with the objects that were handed out over it.

    Args:
        channel: to the other end.
        serves: what answers each word of the other side.
        open_handed: whether any object may be handed out and any attribute of it be reached. The
            examiner hands out callables and modules alone, to be called and nothing else.
    """

    def __init__(
        self, channel: Channel, serves: dict[str, Handler], *, open_handed: bool = False
    ) -> None:
        super().__init__(channel, serves, BaseException if open_handed else Exception)
        self.open_handed = open_handed
        self.exports: dict[int, Any] = {}
        self.built: set[int] = set()  # numbers of what was made at the other side's wish
        self._numbers: dict[int, int] = {}
        self._standins: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._next = 0

    def forget(self) -> None:
        """Drop everything that was handed out."""
        self.exports.clear(), self._numbers.clear(), self.built.clear()

    def open(self, served: Served) -> None:
        """Let values see the request that they came with."""
        unpacker = served.unpacker
        unpacker.native = functools.partial(self._native, served, unpacker, None)

    def packer(self, known: dict[int, Any] | None = None) -> Packer:
        packer = Packer(None, known)
        packer.foreign = functools.partial(self._foreign, packer)
        return packer

    def unpacker(self, head: dict, storages: list[torch.Tensor]) -> Unpacker:
        unpacker = Unpacker(head.get("t"), storages, None, self.channel.limits.frame)
        unpacker.native = functools.partial(self._native, None, unpacker, None)
        return unpacker

    def _foreign(self, packer: Packer, value: Any) -> Any:
        if isinstance(value, (Remote, RemoteModule)):
            far = value._far
            if far.peer is not self:
                raise Refused("an object of another candidate does not cross")
            data: dict[str, Any] = {"yours": far.number, "path": far.path}
            if isinstance(value, RemoteModule):
                data["state"] = standins.state(value, packer)
                packer.modules.append(value)
            return data
        if isinstance(value, RemoteMethod):
            return {"yours": self._foreign(packer, value.owner), "method": value.name}
        if isinstance(value, torch.Generator):
            packer.generators.append(value)
            return {"generator": packer.tensor(value.get_state())}
        if isinstance(value, nn.Module):
            tree = standins.describe(value, packer)
            return {"mine": self.export(value), "tree": tree}
        if callable(value) or self.open_handed:
            name = getattr(value, "__name__", None) if callable(value) else None
            return {"mine": self.export(value), "name": str(name or type(value).__name__)[:60]}
        raise Refused(f"an object of type {type(value).__name__} does not cross")

    def export(self, value: Any) -> int:
        """The number under which the other side may speak of an object."""
        number = self._numbers.get(id(value))
        if number is None:
            self._next += 1
            number = self._numbers[id(value)] = self._next
            self.exports[number] = value
        return number

    def _native(
        self, served: Served | None, unpacker: Unpacker, sent: Packer | None, tag: str, data: dict
    ) -> Any:
        body = data[tag]
        if tag == "mine" and type(body) is int:
            return self._standin(body, data, unpacker)
        if tag == "yours" and type(body) is dict:
            owner = self._native(served, unpacker, sent, "yours", body)
            return self._method(owner, data.get("method"))
        if tag == "yours" and type(body) is int:
            return self._own(body, data, served, unpacker)
        if tag == "generator":
            return unpacker.generator(body)
        if tag == "arg" and sent is not None and type(body) is int and body < len(sent.tensors):
            own = sent.tensors[body]
            return sent.left.get(id(own), own)
        raise WireError(f"an unknown kind of value {tag[:20]!r}")

    def _standin(self, number: int, data: dict, unpacker: Unpacker) -> Any:
        known = self._standins.get(number)
        if "tree" in data:
            if isinstance(known, RemoteModule):
                standins.fill(known, data["tree"], unpacker, {})
                return known
            known = standins.build(Far(self, number), data["tree"], unpacker, {})
        elif known is None:
            known = standins.remote(Far(self, number), data.get("name"))
        self._standins[number] = known
        return known

    def _method(self, owner: Any, name: Any) -> Any:
        if not self.open_handed:
            raise WireError("a method of an object that is there to be called")
        return getattr(owner, of(str, name))

    def _own(self, number: int, data: dict, served: Served | None, unpacker: Unpacker) -> Any:
        if number not in self.exports:
            raise Refused("this reference was lent for the length of one check")
        own = self.exports[number]
        path = data.get("path")
        if path:
            if not isinstance(own, nn.Module) or type(path) is not str:
                raise WireError("a part of what has no parts")
            own = own.get_submodule(path)
        if isinstance(own, nn.Module) and served is not None and "state" in data:
            grad = served.head.get("grad") is True
            if not (self.open_handed or number in self.built):
                standins.require_same(own, data["state"], unpacker)
            served.owners |= standins.load(own, data["state"], unpacker, grad)
            served.loaded.append((own, data["state"]))
        return own

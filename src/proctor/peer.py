"""One side of the boundary: it calls what lives on the other side and serves what lives here.

Both sides speak the same few words, ``call``, ``backward``, ``attribute``; each serves only what
it chose to. While one side waits for an answer it serves the other, so a reference of the
examiner may be called from inside the student's module, and gradients find their way back through
both. A gradient crosses as one backward call; a graph stays where it was made.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import torch

from proctor import standins
from proctor.gradients import Crossing, Ticket
from proctor.link import Handler, Served, of
from proctor.objects import Objects
from proctor.standins import RemoteMethod
from proctor.values import Packer, Unpacker
from proctor.wire import Channel, WireError


class Peer(Objects):
    """One end of a channel, for calls and gradients.

    Args:
        channel: to the other end.
        serves: words of the other side that are answered here beside ``call`` and ``backward``.
        open_handed: as :class:`proctor.objects.Objects` has it.
    """

    def __init__(
        self, channel: Channel, serves: dict[str, Handler], *, open_handed: bool = False
    ) -> None:
        mine: dict[str, Handler] = {"call": self._serve_call, "backward": self._serve_backward}
        super().__init__(channel, mine | serves, open_handed=open_handed)
        self.graphs: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        self.dropped: list[int] = []

    def ambient(self, packer: Packer) -> dict[str, Any]:
        """What goes along with a request, so that the other side's surroundings fit this one's."""
        return {}

    def told(self, reply: dict) -> None:
        """Called with the reply of every call."""

    def takes(self, what: str) -> bool:
        """Whether this side's ``arguments`` or ``parameters`` follow what a call did to them."""
        return True

    # What this side asks of the other

    def call(self, target: Any, args: tuple, kwargs: dict, method: str | None = None) -> Any:
        """Call an object of the other side; gradients can flow back through the result."""
        packer = self.packer()
        head = {
            "f": packer.value(target),
            "m": method,
            "a": [packer.value(x) for x in args],
            "k": {name: packer.value(x) for name, x in kwargs.items()},
            "grad": torch.is_grad_enabled(),
            "drop": self.dropped,
            **self.ambient(packer),
        }
        self.dropped = []
        leaves = [t for t in packer.tensors if t.requires_grad] if head["grad"] else []
        storages = packer.finish()[1]
        number = self.requests + 1
        reply, unpacker = self.request("call", packer, **head)
        self._follow(reply, unpacker, packer, storages)
        outputs = of(list, reply.get("out", []))
        if outputs and leaves:
            ticket = Ticket(self, number, [unpacker.tensor(i) for i in outputs], leaves)
            crossed = Crossing.apply(ticket, *leaves)
            for i, output in zip(outputs, crossed, strict=True):
                unpacker.tensors[i] = output
        unpacker.native = functools.partial(self._native, None, unpacker, packer)
        return unpacker.value(reply.get("v"))

    def attribute(self, target: Any, name: str) -> Any:
        """Read an attribute of an object of the other side; methods come as something to call."""
        packer = self.packer()
        head = {"of": packer.value(target), "name": name, **self.ambient(packer)}
        reply, unpacker = self.request("attribute", packer, **head)
        return RemoteMethod(target, name) if reply.get("method") else unpacker.value(reply.get("v"))

    def backward(self, number: int, grads: tuple, leaves: list[tuple]) -> list[Any]:
        """Gradients of the leaves of an earlier call, from those of its outputs."""
        packer = self.packer()
        head = {"g": [packer.value(g) for g in grads], **self.ambient(packer)}
        reply, unpacker = self.request("backward", packer, call=number, **head)
        found = unpacker.value(reply.get("v"))
        if type(found) is not list or len(found) != len(leaves):
            raise WireError("gradients for another number of inputs")
        for grad, (shape, dtype) in zip(found, leaves, strict=True):
            if grad is not None and (
                not isinstance(grad, torch.Tensor) or grad.shape != shape or grad.dtype != dtype
            ):
                raise WireError("a gradient that does not fit its input")
        return found

    def forget(self) -> None:
        """Drop everything that was handed out or kept for gradients."""
        super().forget()
        self.graphs.clear()

    # What this side serves

    def open(self, served: Served) -> None:
        """Free the graphs that the other side no longer needs; let values see the request."""
        for number in of(list, served.head.get("drop", [])):
            self.graphs.pop(of(int, number), None)
        super().open(served)

    def _serve_call(self, served: Served) -> tuple[dict, Packer]:
        head, unpacker = served.head, served.unpacker
        grad = head.get("grad") is True
        leaves: dict[int, torch.Tensor] = {}
        if grad:
            for i in sorted(unpacker.grad):
                tensor = unpacker.tensors[i]
                if not (tensor.is_floating_point() or tensor.is_complex()):
                    raise WireError("a gradient of integers")
                leaves[i] = tensor.requires_grad_()
        target = unpacker.value(head.get("f"))
        args = [unpacker.value(x) for x in of(list, head.get("a"))]
        kwargs = {str(k): unpacker.value(x) for k, x in of(dict, head.get("k")).items()}
        leaves |= served.owners
        before = bytes(served.data)
        shapes = [(t.shape, t.stride()) for t in unpacker.tensors]
        held = [(c, list(c.items()) if type(c) is dict else list(c)) for c in unpacker.containers]
        drawn = [(g, g.get_state()) for g in unpacker.generators]
        if head.get("m") is not None:
            target = self._method(target, head["m"])
        with torch.set_grad_enabled(grad):
            value = target(*args, **kwargs)
        known = {id(t): {"arg": i} for i, t in enumerate(unpacker.tensors)}
        packer = self.packer(known)
        known_before = self._next
        result = {"v": packer.value(value)}
        self.built |= set(range(known_before + 1, self._next + 1))
        if grad and leaves:
            rows = [i for i, t in enumerate(packer.tensors) if t.requires_grad]
            result["out"] = [i for i in rows if i not in packer.described]
            if result["out"]:
                outputs = [packer.tensors[i] for i in result["out"]]
                order = [leaves[i] for i in sorted(leaves)]
                self.graphs[of(int, head["n"])] = (outputs, order)
        if [(t.shape, t.stride()) for t in unpacker.tensors] != shapes:
            raise RuntimeError("an argument was given another shape in place")
        if before != served.data:
            result["written"] = [
                [i, packer.tensor(s)] for i, s in unpacker.changed_storages(before)
            ]
        result["modules"] = [
            [i, told]
            for i, (module, sent) in enumerate(served.loaded)
            if (told := standins.changes(module, sent, unpacker, packer))
        ]
        result["containers"] = [
            [i, packer.value(c)]
            for i, (c, old) in enumerate(held)
            if not _same(list(c.items()) if type(c) is dict else c, old)
        ]
        result["drawn"] = [
            i for i, (g, old) in enumerate(drawn) if not torch.equal(g.get_state(), old)
        ]
        return result, packer

    def _serve_backward(self, served: Served) -> tuple[dict, Packer]:
        grads = [served.unpacker.value(g) for g in of(list, served.head.get("g"))]
        number = served.head.get("call")
        if type(number) is not int or number not in self.graphs:
            raise WireError("a backward pass through a call that left no graph")
        outputs, leaves = self.graphs[number]
        if len(grads) != len(outputs):
            raise WireError("gradients for another number of outputs")
        used = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        found = torch.autograd.grad(
            [o for o, _ in used], leaves, [g for _, g in used], retain_graph=True, allow_unused=True
        )
        packer = self.packer()
        return {"v": packer.value(list(found))}, packer

    def _follow(
        self, reply: dict, unpacker: Unpacker, packer: Packer, storages: list[torch.Tensor]
    ) -> None:
        """Let this side's arguments show what the call did to them."""
        kept = []
        for i, row in _pairs(reply.get("written"), len(storages)):
            new = unpacker.tensor(row)
            if new.shape != storages[i].shape or new.dtype != storages[i].dtype:
                raise WireError("a written argument of another size")
            kept.append((storages[i], storages[i].clone()))
            storages[i].copy_(new)
        if kept and not self.takes("arguments"):
            # an argument that comes back as the result comes as it was written
            packer.left = {id(tensor): tensor.detach().clone() for tensor in packer.tensors}
            for storage, old in kept:
                storage.copy_(old)
        for i, told in _pairs(reply.get("modules"), len(packer.modules)):
            keep = standins.parameters_of(packer.modules[i])
            standins.apply_changes(packer.modules[i], told, unpacker)
            if standins.differing(packer.modules[i], keep) and not self.takes("parameters"):
                standins.put_back(packer.modules[i], keep)
        for i, data in _pairs(reply.get("containers"), len(packer.containers)):
            old, new = packer.containers[i], unpacker.value(data)
            if type(new) is not type(old):
                raise WireError("a changed container of another kind")
            if not self.takes("arguments"):
                continue
            old.clear()
            old.update(new) if type(old) is dict else old.extend(new)
        for i in of(list, reply.get("drawn", [])):
            if type(i) is not int or not 0 <= i < len(packer.generators):
                raise WireError("a generator that was not sent")
            advance(packer.generators[i])
        self.told(reply)


def advance(generator: torch.Generator) -> None:
    """Move a generator on, to a state that the other side could neither choose nor foresee less.

    The state itself never comes back: a chosen one could make every later draw a known number.
    """
    digest = hashlib.sha256(generator.get_state().numpy().tobytes()).digest()
    generator.manual_seed(int.from_bytes(digest[:7], "little"))


def _pairs(value: Any, length: int) -> list[Any]:
    pairs = of(list, [] if value is None else value)
    if any(
        type(p) is not list or len(p) != 2 or type(p[0]) is not int or not 0 <= p[0] < length
        for p in pairs
    ):
        raise WireError("a change of an argument that was not sent")
    return pairs


def _same(now: list[Any], before: list[Any]) -> bool:
    if len(now) != len(before):
        return False
    return all(
        a is b or (type(a) is tuple and type(b) is tuple and _same(list(a), list(b)))
        for a, b in zip(now, before, strict=True)
    )

"""Results that share memory: with one that was returned before, or with an argument.

What comes back is a copy, in which a write into the memory behind it would not show. In a notebook
it shows: a buffer that is filled anew and returned again overwrites the earlier result. So the
candidate says what its calls left in results that still live over there, and which results lie in
arguments; the copies then do as the originals do.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from typing import Any

import torch

from proctor.link import of
from proctor.values import Packer, Unpacker, lay_out
from proctor.wire import WireError

Place = tuple[weakref.ref, torch.dtype, list[int], list[int], int]


class Returned:
    """On the side of the candidate: the results of one check that still live there."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, Place, bytes]] = []

    def forget(self) -> None:
        """Begin anew."""
        self._held.clear()

    def tell(self, number: int, packer: Packer, unpacker: Unpacker, result: dict[str, Any]) -> None:
        """Add to a reply what its call did to earlier results, and keep its own in mind.

        Args:
            number: of the call.
            packer: of the reply, with the result in it.
            unpacker: of the request.
            result: the reply.
        """
        fresh = [
            (i, t)
            for i, t in enumerate(packer.tensors)
            if t.numel() and not t.requires_grad and i not in packer.described
        ]
        held, self._held, rewritten = self._held, [], []
        for call, row, place, digest in held:
            tensor = _at(place)
            if tensor is not None:
                now = _digest(tensor)
                if now != digest:
                    rewritten.append([call, row, packer.tensor(tensor)])
                self._held.append((call, row, place, now))
        if rewritten:
            result["rewritten"] = rewritten
        given = {s.untyped_storage()._cdata: k for k, s in enumerate(unpacker.storages)}
        inside = []
        for i, tensor in fresh:
            k = given.get(tensor.untyped_storage()._cdata)
            if k is None:
                self._held.append((number, i, _place(tensor), _digest(tensor)))
            elif tensor.dtype == unpacker.storages[k].dtype:
                offset = tensor.storage_offset() - unpacker.storages[k].storage_offset()
                inside.append([i, k, list(tensor.shape), list(tensor.stride()), offset])
        if inside:
            result["inside"] = inside


class Received:
    """On the side of the examiner: the copies of one check's results."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], Place] = {}

    def forget(self) -> None:
        """Begin anew."""
        self._held.clear()

    def follow(
        self,
        reply: dict[str, Any],
        unpacker: Unpacker,
        storages: list[torch.Tensor],
        limit: int,
        takes: Callable[[str], bool],
    ) -> None:
        """Let earlier results show what a call did to them, and new ones lie in their arguments.

        Args:
            reply: of the candidate, trusted in nothing.
            unpacker: of the reply.
            storages: of the arguments.
            limit: bytes that one tensor may have.
            takes: whether ``results`` follow.
        """
        for entry in of(list, reply.get("rewritten", [])):
            call, row, new = _ints(entry, 3)
            tensor, new = _at(self._held.get((call, row))), unpacker.tensor(new)
            if tensor is None:
                continue
            if tensor.shape != new.shape or tensor.dtype != new.dtype:
                raise WireError("an earlier result of another size")
            if not torch.equal(tensor, new) and takes("results"):
                tensor.copy_(new)
        for entry in of(list, reply.get("inside", [])):
            if type(entry) is not list or len(entry) != 5 or not takes("places"):
                continue
            old = unpacker.tensor(entry[0])
            new = lay_out([*entry[1:], 0], storages, limit)
            if old.shape != new.shape or old.dtype != new.dtype or entry[0] in unpacker.grad:
                raise WireError("a result that is not where it is said to be")
            unpacker.tensors[entry[0]] = new
        for row, tensor in enumerate(unpacker.tensors):
            if tensor.numel() and row not in unpacker.grad:
                self._held[reply["n"], row] = _place(tensor)


def _place(tensor: torch.Tensor) -> Place:
    # the storage lives as long as anything lies in it, the tensor as long as somebody has it
    storage = weakref.ref(tensor.untyped_storage())
    shape, stride = list(tensor.shape), list(tensor.stride())
    return storage, tensor.dtype, shape, stride, tensor.storage_offset()


def _at(place: Place | None) -> torch.Tensor | None:
    """What lies at a place now; None where the memory is gone."""
    storage = place and place[0]()
    if storage is None:
        return None
    _, dtype, shape, stride, offset = place
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, stride)


def _digest(tensor: torch.Tensor) -> bytes:
    numbers = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(numbers, digest_size=16).digest()


def _ints(entry: Any, length: int) -> list[int]:
    if type(entry) is not list or len(entry) != length or any(type(n) is not int for n in entry):
        raise WireError("a change of a result that is no short list of numbers")
    return entry

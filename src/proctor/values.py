"""Values as JSON and tensors: what may cross the boundary, written and read back.

A tensor crosses as a row ``[storage, size, stride, offset, requires grad]`` beside a
one-dimensional storage, so a transposed or expanded tensor arrives as it was, and tensors that
share memory still do. What is no plain data is handed to whoever knows the other side's objects.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import torch

from proctor.wire import DTYPES, INT64, MAX_TENSORS, NAMES, Refused, WireError, counts

MAX_AXES = 16
TOGETHER = 4  # times what one tensor may have, all of a frame may when they are laid out


class Packer:
    """Turns values into JSON, and the tensors among them into storages.

    Args:
        foreign: says how a value that is no plain data crosses, or raises :class:`Refused`.
        known: JSON of tensors that the other side has already, by ``id``.
    """

    def __init__(self, foreign: Callable[[Any], Any], known: dict[int, Any] | None = None) -> None:
        self.foreign = foreign
        self.known = known or {}
        self.left: dict[int, torch.Tensor] = {}  # by ``id``, what a call made of tensors sent
        self.tensors: list[torch.Tensor] = []
        self.described: set[int] = set()
        self.containers: list[list | dict] = []
        self.generators: list[torch.Generator] = []
        self.modules: list[torch.nn.Module] = []
        self._index: dict[int, int] = {}
        self._lazy: list[torch.Tensor] = []
        self._finished: tuple[list[list[Any]], list[torch.Tensor]] | None = None

    def value(self, value: Any) -> Any:
        """The JSON of one value."""
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            if not -INT64 <= value < INT64:
                raise Refused("an integer beyond 64 bits does not cross")
            return value
        if kind is float:
            return {"f": value.hex()}
        if isinstance(value, torch.Tensor) and plain(value):
            return self.known.get(id(value)) or {"t": self.tensor(value)}
        if kind is list:
            data = {"l": [self.value(x) for x in value]}
            self.containers.append(value)
            return data
        if kind is torch.Size:
            return {"size": list(value)}
        if isinstance(value, tuple):
            return {"u": [self.value(x) for x in value]}
        if isinstance(value, dict):
            data = {"d": [[self.value(k), self.value(v)] for k, v in value.items()]}
            self.containers.append(value)
            return data
        if kind is torch.dtype and value in NAMES:
            return {"dtype": NAMES[value]}
        if kind is torch.device and value.type == "cpu":
            return {"device": "cpu"}
        if kind is slice:
            return {"slice": [self.value(x) for x in (value.start, value.stop, value.step)]}
        if isinstance(value, (bool, int, float, str)):  # a subclass crosses as what it is made of
            base = next(b for b in (int, float, str) if isinstance(value, b))
            return self.value(base(value))
        if isinstance(value, numbers.Real):  # numpy's own, of which most are neither
            return self.value((int if isinstance(value, numbers.Integral) else float)(value))
        return self.foreign(value)

    def tensor(self, tensor: torch.Tensor) -> int:
        """The index under which this tensor crosses; one object has one index."""
        index = self._index.get(id(tensor))
        if index is None:
            index = self._index[id(tensor)] = len(self.tensors)
            if tensor.is_neg() or tensor.is_conj():  # its memory holds other numbers than it has
                self._lazy.append(tensor)  # so that no other gets its ``id``
                tensor = tensor.resolve_neg().resolve_conj()
            self.tensors.append(tensor)
        return index

    def described_tensor(self, tensor: torch.Tensor | None) -> int | None:
        """The index of a tensor that describes an object, and is no value by itself."""
        if tensor is None:
            return None
        if not plain(tensor):
            raise Refused(
                f"a parameter or buffer that is a {type(tensor).__name__} of {tensor.dtype} and "
                f"{tensor.layout} does not cross; a buffer that is no part of the state may stay: "
                "register it with persistent=False"
            )
        index = self.tensor(tensor)
        self.described.add(index)
        return index

    def finish(self) -> tuple[list[list[Any]], list[torch.Tensor]]:
        """Rows ``[storage, size, stride, offset, requires grad]``, and the storages.

        The storages are views of the tensors' own memory.
        """
        if self._finished is not None and len(self._finished[0]) == len(self.tensors):
            return self._finished
        groups: dict[Any, list[int]] = {}
        for i, t in enumerate(self.tensors):
            key = (t.untyped_storage().data_ptr(), t.dtype) if t.numel() else ("empty", i)
            groups.setdefault(key, []).append(i)
        # the widest items come first, so that every storage starts where its dtype may
        ordered = sorted(groups.values(), key=lambda g: -self.tensors[g[0]].element_size())
        rows: list[Any] = [None] * len(self.tensors)
        storages = []
        for number, group in enumerate(ordered):
            first = self.tensors[group[0]].detach()
            if len(group) == 1 and first.is_contiguous():
                start = first.storage_offset()
                # not a view: an axis of length 1 may have any stride
                storages.append(first.as_strided((first.numel(),), (1,)))
            else:
                extents = [_extent(self.tensors[i]) for i in group]
                start, end = min(a for a, _ in extents), max(b for _, b in extents)
                flat = torch.empty(0, dtype=first.dtype)
                storages.append(flat.set_(first.untyped_storage(), start, (end - start,), (1,)))
            for i in group:
                t = self.tensors[i]
                offset = t.storage_offset() - start if t.numel() else 0
                grad = int(t.requires_grad)
                rows[i] = [number, list(t.shape), list(t.stride()), offset, grad]
        self._finished = rows, storages
        return self._finished


class Unpacker:
    """Turns what a :class:`Packer` wrote into values again, trusting none of it.

    Args:
        rows, storages: as :meth:`Packer.finish` gives them.
        native: makes a value of the JSON that :attr:`Packer.foreign` or ``known`` wrote.
        limit: bytes that one tensor may have when it is laid out (an expanded one has few).
    """

    def __init__(
        self, rows: Any, storages: list[torch.Tensor], native: Callable[[str, Any], Any], limit: int
    ) -> None:
        self.native = native
        if type(rows) is not list or len(rows) > MAX_TENSORS:
            raise WireError("the tensors of a frame are not a short list")
        self.tensors = [lay_out(row, storages, limit) for row in rows]
        whole = sum(t.numel() * t.element_size() for t in self.tensors)
        if whole > TOGETHER * limit:  # whoever copies them, as gradients do, needs all of it
            raise WireError(f"tensors of {whole} bytes together, {TOGETHER * limit} may cross")
        self.grad = {i for i, row in enumerate(rows) if row[4] == 1}
        self.containers: list[list | dict] = []
        self.generators: list[torch.Generator] = []
        self.storages = storages
        self._drawn: dict[int, torch.Generator] = {}

    def value(self, data: Any) -> Any:
        """The value of one piece of JSON."""
        if data is None or type(data) in (bool, str):
            return data
        if type(data) is int:
            if not -INT64 <= data < INT64:
                raise WireError("an integer beyond 64 bits")
            return data
        if type(data) is not dict or len(data) == 0:
            raise WireError(f"a bare {type(data).__name__} in a frame")
        tag, body = next(iter(data.items()))
        if tag == "f":
            return _float(body)
        if tag == "t":
            return self.tensor(body)
        if tag in ("l", "u", "slice", "size"):
            items = [self.value(x) for x in _list(body)]
            if tag == "l":  # the list itself, not a copy: what is done to it is looked for here
                self.containers.append(items)
                return items
            return {"u": tuple, "slice": _slice, "size": _size}[tag](items)
        if tag == "d":
            return self._dict(body)
        if tag == "dtype":
            if type(body) is not str or body not in DTYPES:
                raise WireError(f"an unknown dtype {str(body)[:40]!r}")
            return DTYPES[body]
        if tag == "device":
            return torch.device("cpu")
        return self.native(tag, data)

    def tensor(self, index: Any) -> torch.Tensor:
        """The tensor of one row."""
        if type(index) is not int or not 0 <= index < len(self.tensors):
            raise WireError(f"tensor {str(index)[:40]} of {len(self.tensors)}")
        return self.tensors[index]

    def _dict(self, body: Any) -> dict[Any, Any]:
        pairs = [_list(pair) for pair in _list(body)]
        if any(len(pair) != 2 for pair in pairs):
            raise WireError("a dict whose items are no pairs")
        try:
            found = {self.value(k): self.value(v) for k, v in pairs}
        except TypeError:
            raise WireError("a dict with a key that cannot be one") from None
        self.containers.append(found)
        return found

    def generator(self, index: Any) -> torch.Generator:
        """A random generator in the state that a row holds."""
        if index not in self._drawn:
            generator = torch.Generator()
            try:
                generator.set_state(self.tensor(index))
            except (RuntimeError, TypeError):
                raise WireError("a generator in a state that is none") from None
            self._drawn[index] = generator
        self.generators.append(self._drawn[index])
        return self._drawn[index]

    def changed_storages(self, before: bytes) -> list[tuple[int, torch.Tensor]]:
        """Storages whose bytes are no longer those that arrived."""
        changed, offset = [], 0
        for i, storage in enumerate(self.storages):
            size = storage.numel() * storage.element_size()
            now = storage.view(torch.uint8).numpy().tobytes() if size else b""
            if now != before[offset : offset + size]:
                changed.append((i, storage))
            offset += size
        return changed


def plain(t: torch.Tensor) -> bool:
    """Whether a tensor is of a kind that crosses: strided numbers in memory."""
    usual = type(t) in (torch.Tensor, torch.nn.Parameter)
    return usual and t.layout is torch.strided and t.device.type == "cpu" and t.dtype in NAMES


def _extent(t: torch.Tensor) -> tuple[int, int]:
    """First element of its storage that a tensor uses, and the one after the last."""
    if not t.numel():
        return 0, 0
    start = t.storage_offset()
    return start, start + 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))


def lay_out(row: Any, storages: list[torch.Tensor], limit: int) -> torch.Tensor:
    """The tensor that a row describes, which lies in one of the storages and not beyond."""
    if type(row) is not list or len(row) != 5:
        raise WireError("a tensor without its five numbers")
    number, size, stride, offset, _ = row
    if not counts([number, offset], 2) or number >= len(storages):
        raise WireError(f"a tensor in storage {str(number)[:40]} of {len(storages)}")
    axes = len(size) if type(size) is list else MAX_AXES + 1
    if axes > MAX_AXES or not counts(size, axes) or not counts(stride, axes):
        raise WireError("a tensor whose size and strides are not short lists of counts")
    storage = storages[number]
    numel, last = 1, offset
    for n, step in zip(size, stride, strict=True):
        numel *= n
        last += (n - 1) * step
    if numel * storage.element_size() > limit:
        raise WireError(f"a tensor of {numel * storage.element_size()} bytes, {limit} may cross")
    if numel and last >= storage.numel():
        raise WireError(f"a tensor that reaches element {last} of {storage.numel()}")
    tensor = torch.empty(0, dtype=storage.dtype)
    return tensor.set_(storage.untyped_storage(), storage.storage_offset() + offset, size, stride)


def _float(text: Any) -> float:
    try:
        return float.fromhex(text)
    except (TypeError, ValueError, OverflowError):
        raise WireError("a number that is none") from None


def _list(body: Any) -> list[Any]:
    if type(body) is not list:
        raise WireError(f"a {type(body).__name__} where a list belongs")
    return body


def _slice(items: list[Any]) -> slice:
    if len(items) != 3:
        raise WireError(f"a slice of {len(items)} parts")
    return slice(*items)


def _size(items: list[Any]) -> torch.Size:
    if not counts(items, len(items)):
        raise WireError("a size that holds something else than counts")
    return torch.Size(items)

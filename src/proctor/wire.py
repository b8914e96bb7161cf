"""What crosses the boundary, and how: JSON for the frame, safetensors for the bytes of tensors.

A frame is two little-endian lengths, the JSON head and, where tensors cross, one safetensors blob
of one-dimensional storages (:mod:`proctor.values` says how tensors lie in them). Nothing is ever
unpickled or evaluated; lengths, dtypes and sizes are checked before the bytes are read.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import torch

from proctor.limits import Limits

LENGTHS = struct.Struct("<QQ")
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "C128": torch.complex128,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_TENSORS = 4096
AT_ONCE = 65536  # bytes that are looked for in one go
INT64 = 2**63
_text = json.JSONEncoder(separators=(",", ":")).encode
_value = json.JSONDecoder().decode


class WireError(Exception):
    """The other side sent what no honest peer would send."""


class Closed(WireError):
    """The other side is gone."""


class Refused(TypeError):
    """A value of a kind that does not cross, or one that is too large to."""


class Channel:
    """Frames over a stream socket.

    Args:
        sock: connected; it becomes non-blocking.
        limits: how long a head and a blob may be, in both directions.
        idle: called about every 20 ms while the other side is waited for; it raises to give up.
    """

    def __init__(
        self, sock: socket.socket, limits: Limits, idle: Callable[[], None] | None = None
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.limits = limits
        self.idle = idle
        # a call that blocks would also wake when the other side has read what was sent
        self._news, self._room = select.poll(), select.poll()
        self._news.register(sock, select.POLLIN), self._room.register(sock, select.POLLOUT)
        self._ahead = bytearray()  # what came in with the bytes that were asked for

    def send(self, head: dict[str, Any], storages: list[torch.Tensor] = ()) -> None:
        """Send a head and the storages (one-dimensional, contiguous) that it speaks of.

        Raises:
            Refused: if either is over its limit; nothing has been sent then.
            WireError: if the other side is gone.
        """
        text = _text(head).encode()
        parts = _blob(storages) if storages else []
        size = sum(len(part) for part in parts)
        if len(text) > self.limits.head or size > self.limits.frame + self.limits.head:
            raise Refused(
                f"{(size + len(text)) / 2**20:.1f} MiB are too much for one call; "
                f"{self.limits.frame / 2**20:.1f} MiB may cross"
            )
        self._send([LENGTHS.pack(len(text), size), text, *parts], len(text) + size)

    def receive(self) -> tuple[dict[str, Any], list[torch.Tensor], bytearray]:
        """The next head, its storages, and the bytes that the storages share.

        Raises:
            WireError: if the other side is gone or breaks the format or a limit.
        """
        head_size, blob_size = LENGTHS.unpack(self._receive(LENGTHS.size))
        if head_size > self.limits.head:
            raise WireError(f"a head of {head_size} bytes where {self.limits.head} may cross")
        if blob_size > self.limits.frame + self.limits.head:
            raise WireError(f"tensors of {blob_size} bytes where {self.limits.frame} may cross")
        head = _json(self._receive(head_size))
        if not blob_size:
            return head, [], bytearray()
        if blob_size < 8:
            raise WireError(f"a blob of {blob_size} bytes is too short for a header")
        (n,) = struct.unpack("<Q", self._receive(8))
        if n > self.limits.head or 8 + n > blob_size:
            raise WireError(f"a tensor header of {n} bytes in a blob of {blob_size}")
        layout = _layout(_json(self._receive(n)), blob_size - 8 - n)
        data = self._receive(blob_size - 8 - n)
        return head, _storages(layout, data), data

    def close(self) -> None:
        """Close the socket; the other side sees the end of the stream."""
        self.sock.close()

    def _send(self, parts: list[Any], size: int) -> None:
        if size <= AT_ONCE:  # joining them costs less than speaking of each
            parts = [b"".join(parts)]
        rest = [memoryview(part) for part in parts if len(part)]
        while rest:
            try:
                sent = self.sock.sendmsg(rest[:64])
            except BlockingIOError:
                self._wait(self._room)
                continue
            except OSError as error:
                raise _gone(error) from None
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = rest[0][sent:]

    def _receive(self, size: int) -> bytearray:
        """The next so many bytes; a small frame comes in with one look at the socket."""
        ahead = self._ahead
        if size - len(ahead) > AT_ONCE:
            data = bytearray(size)
            rest = memoryview(data)[len(ahead) :]
            data[: len(ahead)] = ahead
            ahead.clear()
            while rest:
                rest = rest[self._look(self.sock.recv_into, rest) :]
            return data
        while len(ahead) < size:
            ahead += self._look(self.sock.recv, AT_ONCE)
        data = ahead[:size]
        del ahead[:size]
        return data

    def _look(self, read: Callable[[Any], Any], into: Any) -> Any:
        while True:
            self._wait(self._news)
            try:
                got = read(into)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _gone(error) from None
            if not got:
                raise Closed("the other side closed the connection")
            return got

    def _wait(self, event: Any) -> None:
        while not event.poll(20 if self.idle else None):
            self.idle()


def _gone(error: OSError) -> Closed:
    return Closed(f"the other side is gone ({error.strerror})")


def _blob(storages: list[torch.Tensor]) -> list[Any]:
    """The storages in safetensors' own format."""
    entries, end, parts = [], 0, []
    for i, s in enumerate(storages):
        numel, start = s.numel(), end
        end += numel * s.element_size()
        entries.append(
            f'"{i}":{{"dtype":"{NAMES[s.dtype]}","shape":[{numel}],"data_offsets":[{start},{end}]}}'
        )
        parts.append(s.view(torch.uint8).numpy().data if numel else b"")
    text = f"{{{','.join(entries)}}}".encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)) + text, *parts]


def _layout(header: Any, size: int) -> list[tuple[torch.dtype, int]]:
    """Dtype and number of elements of each storage, checked against each other and the size."""
    if type(header) is not dict or not 0 < len(header) <= MAX_TENSORS:
        raise WireError("a tensor header that names no tensors")
    layout, end = [], 0
    for i in range(len(header)):
        entry = header.get(str(i))
        if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WireError(f"storage {i} is not described as safetensors does")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if type(dtype) is not str or dtype not in DTYPES:
            raise WireError(f"storage {i} has an unknown dtype {str(dtype)[:40]!r}")
        if not counts(shape, 1) or not counts(offsets, 2):
            raise WireError(f"storage {i} has an impossible shape or place")
        length = shape[0] * DTYPES[dtype].itemsize
        if offsets != [end, end + length]:
            raise WireError(f"storage {i} claims {length} bytes at {offsets}, after {end}")
        end += length
        layout.append((DTYPES[dtype], shape[0]))
    if end != size:
        raise WireError(f"storages of {end} bytes in a blob that holds {size}")
    return layout


def _storages(layout: list[tuple[torch.dtype, int]], data: bytearray) -> list[torch.Tensor]:
    storages, offset = [], 0
    for dtype, n in layout:
        if n == 0:
            storages.append(torch.empty(0, dtype=dtype))
            continue
        storage = torch.frombuffer(data, dtype=dtype, count=n, offset=offset)
        if dtype is torch.bool and int(storage.view(torch.uint8).max()) > 1:
            raise WireError("a boolean that is neither true nor false")
        storages.append(storage)
        offset += n * dtype.itemsize
    return storages


def counts(values: Any, length: int) -> bool:
    """Whether this is a list of that many counts: integers from 0 to 2⁶³ - 1."""
    return (
        type(values) is list
        and len(values) == length
        and all(type(n) is int and 0 <= n < INT64 for n in values)
    )


def _json(text: bytearray) -> Any:
    try:
        return _value(text.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame that is not JSON ({type(error).__name__})") from None

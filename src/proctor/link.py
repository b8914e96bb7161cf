"""Requests and replies over a channel, in both directions: while one side waits, it serves.

A request is a word, a number and what the word needs; its reply bears the same number. Each side
answers the words it chose to serve and no others. An error crosses as its name and its message.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import torch

from proctor.values import Packer, Unpacker
from proctor.wire import Channel, Refused, WireError

DEPTH = 16  # requests inside requests


class Served:
    """A request that is being answered."""

    def __init__(self, head: dict, unpacker: Unpacker, data: bytearray) -> None:
        self.head, self.unpacker, self.data = head, unpacker, data
        self.loaded: list[tuple[torch.nn.Module, Any]] = []
        self.owners: dict[int, torch.Tensor] = {}


Handler = Callable[[Served], tuple[dict[str, Any], Packer]]


class Link:
    """One end of a channel.

    Args:
        channel: to the other end.
        serves: what answers each word of the other side.
        catches: errors of a handler that are told to the other side; the rest end the link.
    """

    def __init__(
        self,
        channel: Channel,
        serves: dict[str, Handler],
        catches: type[BaseException] = Exception,
    ) -> None:
        self.channel = channel
        self.serves = serves
        self.catches = catches
        self.requests = 0
        self._depth = 0

    def packer(self, known: dict[int, Any] | None = None) -> Packer:
        """A packer that knows how objects of this side cross."""
        raise NotImplementedError

    def unpacker(self, head: dict, storages: list[torch.Tensor]) -> Unpacker:
        """An unpacker that knows the objects of both sides."""
        raise NotImplementedError

    def open(self, served: Served) -> None:
        """Called before a request is answered."""

    def request(self, op: str, packer: Packer, **head: Any) -> tuple[dict, Unpacker]:
        """Ask, serve while waiting, and return the reply.

        Raises:
            WireError: if the other side is gone or breaks the protocol.
            Exception: what the other side raised, where it is a built-in exception; a
                RuntimeError that names it otherwise. Its ``where`` says where it happened.
        """
        self.requests += 1
        number = self.requests
        rows, storages = packer.finish()
        self.channel.send({"op": op, "n": number, "t": rows, **head}, storages)
        while True:
            reply, storages, data = self.channel.receive()
            if type(reply) is not dict:
                raise WireError("a frame that is no request and no reply")
            if reply.get("op") not in ("reply", "error"):
                self.serve(reply, storages, data)
                continue
            if reply.get("n") != number:
                raise WireError(f"a reply to request {str(reply.get('n'))[:20]}, not to {number}")
            if reply["op"] == "error":
                raise _exception(reply)
            return reply, self.unpacker(reply, storages)

    def serve(self, head: Any, storages: list[torch.Tensor], data: bytearray) -> None:
        """Answer one request, with a result or with the error it met.

        Raises:
            WireError: if the request breaks the protocol.
        """
        if type(head) is not dict or type(head.get("op")) is not str:
            raise WireError("a request without a word")
        number = head.get("n")
        self._depth += 1
        if self._depth > DEPTH:
            raise WireError(f"requests inside requests, {DEPTH} deep")
        try:
            handler = self.serves.get(head["op"])
            if handler is None:
                raise Refused(f"{head['op'][:20]!r} is not served here")
            served = Served(head, self.unpacker(head, storages), data)
            self.open(served)
            result, packer = handler(served)
            rows, storages = packer.finish()
            self.channel.send({"op": "reply", "n": number, "t": rows, **result}, storages)
        except WireError:
            raise
        except self.catches as error:
            self.channel.send({"op": "error", "n": number, **self.describe_error(error)})
        finally:
            self._depth -= 1

    def describe_error(self, error: BaseException) -> dict[str, str]:
        """What the other side is told of an error."""
        return {"type": type(error).__name__, "message": text_of(error)}


def text_of(error: BaseException) -> str:
    """The message of an error, at most 4000 characters, whatever its class makes of it."""
    try:
        only = isinstance(error, KeyError) and len(error.args) == 1
        return str(error.args[0] if only else error)[:4000]
    except Exception:
        return "its message could not be read"


def of(kind: type, value: Any) -> Any:
    """The value, if it is of exactly that kind.

    Raises:
        WireError: if it is not.
    """
    if type(value) is not kind:
        raise WireError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _exception(reply: dict) -> Exception:
    name, message = str(reply.get("type"))[:100], str(reply.get("message"))[:4000]
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind, message = RuntimeError, f"{name}: {message}" if message else name
    try:
        error = kind(message)
    except TypeError:  # UnicodeError and its kin want more than a message
        error = RuntimeError(f"{name}: {message}")
    error.where = str(reply.get("where", ""))[:8000]
    return error

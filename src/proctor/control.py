"""Messages between processes of the grader itself: a line of JSON, and open files beside it."""

from __future__ import annotations

import json
import socket
from typing import Any


def send(control: socket.socket, message: dict[str, Any], files: list[int] = ()) -> None:
    """Send a message and the files with it.

    Raises:
        OSError: if the other side is gone.
    """
    socket.send_fds(control, [json.dumps(message).encode() + b"\n"], list(files))


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One message and the files with it.

    Raises:
        EOFError: if the other side is gone.
    """
    text, files = b"", []
    while not text.endswith(b"\n"):
        try:
            part, received, _, _ = socket.recv_fds(control, 65536, 4)
        except ConnectionError:
            part, received = b"", []
        if not part:
            raise EOFError
        text += part
        files += received
    return json.loads(text), files

"""A worker: it reads an exercise and submissions, and writes a record for each.

It starts by forking the process that will fork the candidates, while it knows nothing that students
should not; the exercise with its hidden tests comes afterwards. One JSON object a line, in and out.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import resource
import socket
import time
from typing import Any, BinaryIO

from proctor import forkserver, libc
from proctor.exercise import Exercise
from proctor.grading import Grader
from proctor.limits import MiB
from proctor.terms import Terms
from proctor.usage import private_memory

MEMORY = 2048 * MiB  # for checks, their references, and what answers make them keep


def main(link: socket.socket, loading: float) -> None:
    """Serve a driver until it closes its end.

    Args:
        link: to the driver.
        loading: CPU seconds that were used up before this process was.
    """
    # byte by byte: what follows must not be in memory yet when the fork server splits off
    public = json.loads(_line(link.fileno()) or "null")
    if public is None:
        return
    server = forkserver.ForkServer(**{name: tuple(value) for name, value in public.items()})
    requests, replies = link.makefile("rb"), link.makefile("wb")
    private = _read(requests)
    if private is None:
        return
    exercise, terms = Exercise.of(private["exercise"]), Terms.of(private["terms"])
    grader = Grader(exercise, server, terms)
    _bound_memory()
    gc.freeze()
    gc.enable()
    _write(replies, {"ready": os.getpid()})
    born = time.process_time()
    while (request := _read(requests)) is not None:
        data = base64.b64decode(request["data"])
        try:
            record = grader.grade(request["student"], data).to_bytes()
            reply = {"record": record.decode("ascii")}
        except forkserver.WallError as error:
            reply = {"stop": str(error)}
        except forkserver.ServerGone:
            return  # the driver starts another worker, which marks this submission
        except Exception as error:  # one submission's record says so; the batch goes on
            reply = {"failed": f"{type(error).__name__}: {error}"[:500]}
        mine = {"loading": loading + born, "examiner": time.process_time() - born}
        _write(replies, reply | {"cpu": mine | server.spent})
    server.close()


def _bound_memory() -> None:
    """Let this process, but not the candidates, have so much more: a check too many fails then."""
    if libc.LINUX:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        size = private_memory(os.getpid()) + MEMORY
        soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _line(file: int) -> bytes:
    """One line, and not a byte of what comes after it."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(file, 1)):
        line += byte
    return line


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    line = stream.readline()
    return json.loads(line) if line else None


def _write(stream: BinaryIO, reply: dict[str, Any]) -> None:
    stream.write(json.dumps(reply).encode() + b"\n")
    stream.flush()

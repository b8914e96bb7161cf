"""A process that has torch loaded, and nothing that students should not see, forks candidates.

It never holds a test, a reference or a grade, so a candidate, which is a copy of it, cannot find
one in its memory. A candidate in namespaces of its own is the first process there: when it or this
process ends, the kernel ends everything inside.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from typing import Any

import torch

from proctor import bans, candidate, libc, taken_away, walls
from proctor.control import receive, send
from proctor.limits import Limits
from proctor.walls import Walls
from proctor.wire import Channel


def warm_up() -> None:
    """Pay once for what is imported at first use; one thread, so that forking is safe."""
    torch.set_num_threads(1)
    torch.set_default_device(None)
    importlib.import_module("numpy.random")
    x = torch.ones(2, requires_grad=True)
    # with a gradient of its own to start from, which imports half a second's worth of modules
    torch.autograd.grad(x.softmax(-1) * x, x, torch.ones(2), allow_unused=True)
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()


class ForkServer:
    """The examiner's end: start one candidate at a time, and stop it.

    Args:
        banned: dotted names that student code may not use; modules among them are not there.
        preload: modules to import before forking.
        readable: folders of modules outside the interpreter's own.

    Attributes:
        spent: CPU seconds of the server and of its candidates, until the last one ended.
    """

    def __init__(
        self,
        banned: tuple[str, ...] = (),
        preload: tuple[str, ...] = (),
        readable: tuple[str, ...] = (),
    ) -> None:
        self.readable = readable
        self.hidden = bans.hidden_files(banned)
        self.spent: dict[str, float] = {}
        self.control, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.control.close()
                _serve(theirs, banned, preload)
            finally:
                os._exit(0)
        theirs.close()

    def start(self, level: str, limits: Limits) -> tuple[int, socket.socket]:
        """Fork a candidate: its process number, and a socket to it.

        Raises:
            WallError: if a wall could not be put up; no student code has run then.
            ServerGone: if the server is no more.
        """
        ours, theirs = socket.socketpair()
        asked = Walls(level, self.readable, self.hidden, limits)
        with theirs:
            answer = self._ask(asdict(asked), [theirs.fileno()])
        if "pid" not in answer:
            ours.close()
            raise WallError(answer.get("error", "the candidate did not start"))
        return answer["pid"], ours

    def stop(self) -> int:
        """End the candidate and everything it started; its exit status, as ``waitpid`` has it.

        Raises:
            ServerGone: if the server is no more; the candidate has ended with it.
        """
        answer = self._ask({}, [])
        self.spent = answer["cpu"]
        return answer["status"]

    def _ask(self, message: dict[str, Any], files: list[int]) -> dict[str, Any]:
        try:
            send(self.control, message, files)
            return receive(self.control)[0]
        except (EOFError, OSError):
            raise ServerGone("the process that forks candidates has ended") from None

    def close(self) -> None:
        """End the server."""
        self.control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class WallError(Exception):
    """A wall that could not be put up."""


class ServerGone(Exception):
    """The fork server ended; its worker is of no more use."""


def _serve(control: socket.socket, banned: tuple[str, ...], preload: tuple[str, ...]) -> None:
    if libc.LINUX:
        libc.die_with_parent()
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers itself
    _close_all_but(control.fileno())  # the worker's own socket is none of its business
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in preload:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    taken_away.install(banned)
    gc.collect()
    gc.freeze()  # a collection in the child would copy every page it marks
    gc.enable()
    while True:
        try:
            asked, files = receive(control)
        except EOFError:
            return
        limits = Limits(**asked.pop("limits"))
        asked = {k: tuple(v) if isinstance(v, list) else v for k, v in asked.items()}
        started = _start(Walls(**asked, limits=limits), files[0], control)
        os.close(files[0])
        if isinstance(started, str):
            send(control, {"error": started})
            continue
        send(control, {"pid": started[0]})
        try:
            receive(control)
        except EOFError:
            _end(*started)
            return
        send(control, {"status": _end(*started), "cpu": _spent()})


def _start(wanted: Walls, wire: int, control: socket.socket) -> tuple[int, Walls] | str:
    """Fork the candidate and see it put up its walls; or say what went wrong.

    Returns:
        The candidate's process number, and what it was started with.
    """
    news, tell = os.pipe()
    go, allow = os.pipe()
    start = walls.address_space()
    try:
        pid = walls.fork_into_namespaces() if wanted.own_namespaces else os.fork()
    except OSError as error:
        for end in (news, tell, go, allow):
            os.close(end)
        return f"the candidate could not be forked: {error.strerror}"
    if pid == 0:
        control.close()
        os.close(news), os.close(allow)
        _child(wanted, start, wire, tell, go)
    os.close(tell), os.close(go)
    try:
        if wanted.own_namespaces:
            walls.map_user(pid)
        os.write(allow, b"\n")
        said = _line(news)
    except OSError as error:
        said = f"the user of the candidate's namespace could not be set: {error.strerror}"
    finally:
        os.close(allow), os.close(news)
    if said == "ready":
        return pid, wanted
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said or "the candidate ended while its walls were put up"


def _child(wanted: Walls, start: int, wire: int, tell: int, go: int) -> None:
    """The candidate, which is the first process of its pid namespace where it has one."""
    try:
        if libc.LINUX:
            libc.die_with_parent()
        os.read(go, 1)
        if wanted.own_namespaces:
            walls.build_root(wanted)
        walls.close_in(wanted, start)
        os.write(tell, b"ready\n")
        _close_all_but(wire)
        candidate.main(Channel(socket.socket(fileno=wire), wanted.limits), wanted.limits)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(tell, f"{error.strerror}\n".encode())
    finally:
        os._exit(0)


def _end(pid: int, wanted: Walls) -> int:
    """Kill what is left of a candidate and wait until all of it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not wanted.own_namespaces:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]  # the first of a namespace ends after all others in it
    if not wanted.own_namespaces:
        _end_orphans()
    return status


def _end_orphans() -> None:
    """Kill what left the candidate's process group; it has become a child of this process."""
    while libc.LINUX:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            left = [int(pid) for pid in children.read().split()]
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _spent() -> dict[str, float]:
    """CPU seconds of this process, and of the candidates that have ended."""
    mine, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "forking": mine.ru_utime + mine.ru_stime,
        "candidates": theirs.ru_utime + theirs.ru_stime,
    }


def _close_all_but(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, 2**16)


def _line(pipe: int) -> str:
    """One line, or what came of it before the end."""
    text = b""
    while not text.endswith(b"\n"):
        byte = os.read(pipe, 1)
        if not byte:
            break
        text += byte
    return text.decode().strip()


if sys.platform == "darwin":  # a fork is safe there only where no system framework was touched
    os.environ.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")

"""A process that has torch loaded, and nothing else, forks the workers.

Loading torch takes a second and most of a worker's memory; here it happens once in a run, before
anybody is told what is to be graded. A worker gets a socket to the driver, and closes every other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from proctor import jail, libc
from proctor.control import receive, send


class Zygote:
    """The driver's end: fork workers, and end them.

    Args:
        level: of isolation; at ``jail`` the workers share one, behind its outer wall.
    """

    def __init__(self, level: str) -> None:
        self.control, theirs = socket.socketpair()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed where the process is)
        with theirs:
            self.process = subprocess.Popen(
                jail.zygote_command(level),
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=self.said,
                start_new_session=True,
                env=jail.environment(),
                cwd="/",
            )

    def fork(self) -> socket.socket:
        """A socket to a new worker, which starts as soon as torch is loaded.

        Raises:
            OSError: if the zygote is no more.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            send(self.control, {}, [theirs.fileno()])
        return ours

    def end(self, pid: int | None) -> None:
        """Kill a worker by the number that it has in there; where it has none yet, everything."""
        if pid is None:
            self.process.kill()
            return
        with contextlib.suppress(EOFError, OSError):
            send(self.control, {"end": pid})
            receive(self.control)  # answered, so that no two messages run into each other

    def complaint(self) -> str:
        """The last line of what it and its workers complained about."""
        self.said.seek(0)
        lines = self.said.read(10**6).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it gave no reason; run `proctor doctor`"

    def close(self) -> None:
        """End it and its workers."""
        self.control.close()
        # the whole group: bubblewrap's second process is not yet tied to its first when it starts
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.said.close()


def main() -> None:
    """Fork a worker for every socket that comes in, until the driver is gone."""
    if libc.LINUX:
        libc.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers itself
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # and sees by their sockets when they have ended
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0), os.dup2(nothing, 1)

    gc.disable()  # nothing of what is imported now is ever garbage
    from proctor import forkserver, worker

    forkserver.warm_up()
    gc.freeze()
    loading = time.process_time()
    while True:
        try:
            asked, files = receive(control)
        except EOFError:
            return
        if not files:
            with contextlib.suppress(ProcessLookupError):
                os.kill(asked["end"], signal.SIGKILL)
            send(control, {})
            continue
        if os.fork() == 0:
            control.close()
            _work(worker.main, socket.socket(fileno=files[0]), loading)
        os.close(files[0])
        loading = 0.0  # the first worker has it on its account


def _work(
    serve: Callable[[socket.socket, float], None], link: socket.socket, loading: float
) -> NoReturn:
    """What a worker does, from its birth to its end."""
    try:
        if libc.LINUX:
            libc.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        serve(link, loading)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)

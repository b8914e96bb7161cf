"""The trusted side: it runs the checks, with stand-ins under the student's names.

A check is ordinary Python and runs here, with the reference and everything hidden in it; only calls
of the student's functions cross to the candidate. What a candidate does, or fails to do, in that
time can cost the check and nothing else.
"""

from __future__ import annotations

import ast
import base64
import builtins
import functools
import os
import resource
import signal
import socket
import time
import types
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch

from proctor import libc, seeds
from proctor.limits import Limits, MiB
from proctor.link import of, text_of
from proctor.peer import Peer
from proctor.results import Received
from proctor.usage import cpu_time, private_memory, waited
from proctor.values import Packer
from proctor.verdicts import Verdict, verdict_on
from proctor.wire import Channel, Closed, WireError

HOARD = 192 * MiB  # what a notebook may hold in variables and in libraries that it imports
WRITTEN = (
    "your code writes to what it is given, and its result is right only for what it left there: "
    "work on copies"
)


class Gone(BaseException):
    """The candidate is of no more use: it ended, overran, or broke the protocol.

    Not an ``Exception``, so that no check takes it for an answer.

    Args:
        kind: ``ended`` (by itself), ``memory`` (for want of it, where a check bounds it), ``cpu``,
            ``wall`` or ``refused`` (what it sent).
        reason: for the student.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Examinee(Peer):
    """The examiner's end of the channel to one candidate.

    Args:
        pid: of the candidate; its CPU time is read from outside.
        sock: to the candidate.
        limits: what each cell and each check may use.
    """

    def __init__(self, pid: int, sock: socket.socket, limits: Limits) -> None:
        super().__init__(Channel(sock, limits, idle=self._watch), {})
        self.pid, self.limits = pid, limits
        self._memory_start = private_memory(pid)
        self._cpu_end = 0.0
        self._idle_start: float | None = None  # looked at only where something is waited for
        self._state: torch.Tensor | None = None
        self._wrote = False  # whether a call of this check wrote to what it was given
        self._as_given = False  # whether that does not show here
        self._received = Received()
        self._lent: dict[str, Any] = {}  # what stands under the student's names here
        self._told: dict[str, Any] = {}  # and what the candidate knows of it

    def run(self, label: str, source: str) -> tuple[str, dict[str, str] | None]:
        """Run a cell of the notebook; what it printed, and the error that stopped it.

        Raises:
            Gone: if the candidate did not survive it.
        """
        with self._budget():
            packer = self.packer()
            head = {"label": label, "source": source} | self.ambient(packer)
            try:
                reply, _ = self.request("cell", packer, **head)
            except Exception as error:  # the candidate's own side was tampered with
                return "", {"type": type(error).__name__, "message": text_of(error)}
            error = reply.get("error")
            if error is not None:
                error = {k: str(v)[:8000] for k, v in _guarded(of, dict, error).items()}
            return str(reply.get("printed"))[: self.limits.output + 100], error

    def check(self, source: str, label: str, setup: dict[str, Any], key: bytes) -> Verdict:
        """Run one check against the candidate.

        Args:
            source: of the check, hidden tests included.
            label: its name.
            setup: namespace of the setup cell on this side.
            key: that its seeds are mixed with.

        Raises:
            Gone: if the candidate did not survive it.
        """
        verdict = self._try(source, label, setup, key)
        if verdict.passed and self._wrote:
            # what is expected may have been computed from what the call left behind: once more,
            # with everything as it was given
            self._as_given = True
            again = self._try(source, label, setup, key)
            self._as_given = False
            if not again.passed:
                return Verdict("failed", f"{WRITTEN}\n{again.message}", again.where)
        return verdict

    def _try(self, source: str, label: str, setup: dict[str, Any], key: bytes) -> Verdict:
        code, used = _compiled(source, label)
        self._wrote = False
        with self._budget(), seeds.keyed(key, label):
            self.forget()
            try:
                namespace = dict(setup) | {"__name__": "check"}
                wanted = [n for n in used if n not in namespace and not hasattr(builtins, n)]
                namespace.update(self._begin(seeds.mixed(key, label), wanted))
                namespace[seeds.MARK] = lambda lent: self._given(lent, namespace)
                if libc.LINUX:  # what a call costs, measured where the candidate has no hand in it
                    namespace["__limited__"] = self._limited
                    namespace["__spent__"] = lambda: cpu_time(self.pid)
                exec(code, namespace)
            except Exception as error:
                return verdict_on(error)
            finally:
                self.forget()
                _reset()
        return Verdict("passed")

    def request(self, op: str, packer: Any, **head: Any) -> Any:
        try:
            return super().request(op, packer, **head)
        except Closed as error:
            raise Gone("ended", str(error)) from None
        except WireError as error:
            raise Gone("refused", f"what came back was refused: {error}") from None

    def ambient(self, packer: Packer) -> dict[str, Any]:
        head: dict[str, Any] = {"dtype": str(torch.get_default_dtype()).removeprefix("torch.")}
        given = {n: packer.value(x) for n, x in self._lent.items() if self._told.get(n) is not x}
        given |= dict.fromkeys(self._told.keys() - self._lent.keys())
        if given:
            head["given"] = given
            self._told = dict(self._lent)
        state = torch.get_rng_state()
        if self._state is None or not torch.equal(state, self._state):
            self._state = state
            head["rng"] = base64.b64encode(state.numpy().tobytes()).decode()
        return head

    def forget(self) -> None:
        super().forget()
        self._received.forget()

    def _follow(self, reply: dict, unpacker: Any, packer: Packer, storages: list) -> None:
        super()._follow(reply, unpacker, packer, storages)
        self._received.follow(reply, unpacker, storages, self.limits.frame, self.takes)

    def told(self, reply: dict) -> None:
        if reply.get("drew") is True:
            torch.rand(1)  # the numbers go on here too; which ones, the candidate does not choose

    def takes(self, what: str) -> bool:
        self._wrote = True
        return not self._as_given

    def _begin(self, seed: int, wanted: list[str]) -> dict[str, Any]:
        """Let the candidate forget the last check; those names that the student defined."""
        packer = self.packer()
        head = {"seed": seed, "names": wanted, **self.ambient(packer)}
        reply, unpacker = self.request("begin", packer, **head)
        found = _guarded(of, dict, reply.get("found"))
        return {n: _guarded(unpacker.value, found[n]) for n in wanted if n in found}

    def _given(self, lent: dict[str, Any], here: dict[str, Any]) -> AbstractContextManager[None]:
        @contextmanager
        def replaced() -> Iterator[None]:
            before = {name: here[name] for name in lent if name in here}
            outer = self._lent
            self._lent = outer | lent  # the candidate is told with the next request
            here.update(lent)
            try:
                yield
            finally:
                for name in lent:
                    here.pop(name)
                here.update(before)
                self._lent = outer

        return replaced()

    @contextmanager
    def _limited(self, more: int) -> Iterator[None]:
        """Let the candidate have this many bytes of memory beyond what it has now.

        It may not set limits itself (:mod:`proctor.seccomp`), its allocator keeps no large block
        that was freed, and what it set aside beforehand is no room beyond :data:`HOARD`.
        """
        soft, hard = resource.prlimit(self.pid, resource.RLIMIT_DATA)
        size = min(private_memory(self.pid), self._memory_start + HOARD) + more
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (size, hard))
        try:
            yield
        except Gone as gone:
            if gone.kind != "ended":
                raise
            said = f"it ended for want of memory: this check allows {more // MiB} MiB more at once"
            raise Gone("memory", said) from None
        finally:
            with suppress(ProcessLookupError):  # it may have ended meanwhile
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (soft, hard))

    @contextmanager
    def _budget(self) -> Iterator[None]:
        self._cpu_end = cpu_time(self.pid) + self.limits.cpu
        self._idle_start = None
        # what comes back may make the check itself run on: its own CPU time ends that
        old = signal.signal(signal.SIGPROF, self._overdue)
        signal.setitimer(signal.ITIMER_PROF, self.limits.wall)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, old)

    def _watch(self) -> None:
        if cpu_time(self.pid) > self._cpu_end:
            raise Gone("cpu", f"it took more than {self.limits.cpu:g} s of CPU time")
        if self._idle_start is None:
            self._idle_start = self._idle()
        if self._idle() - self._idle_start > self.limits.wall:
            raise Gone("wall", f"it did not finish within {self.limits.wall:g} s")

    def _idle(self) -> float:
        """Seconds on the clock, without those for which the machine was busy elsewhere."""
        return time.monotonic() - waited(self.pid) - waited(os.getpid())

    def _overdue(self, *_: object) -> None:
        raise Gone("wall", f"its check did not finish within {self.limits.wall:g} s")


def setup_namespace(sources: list[str]) -> dict[str, Any]:
    """The names that the locked cells of a notebook define, on this side."""
    namespace: dict[str, Any] = {"__name__": "check", "__builtins__": builtins}
    for source in sources:
        exec(compile(source, "<setup>", "exec", dont_inherit=True), namespace)
    return namespace


@functools.cache
def _compiled(source: str, label: str) -> tuple[types.CodeType, tuple[str, ...]]:
    """The code of a check, and the names that it uses."""
    tree = ast.parse(source)
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    # not the names that the check defines itself: what a hidden one calls its variables is hidden
    used = {n.id for n in names} - {n.id for n in names if not isinstance(n.ctx, ast.Load)}
    used -= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return compile(tree, f"<{label}>", "exec", dont_inherit=True), tuple(sorted(used))


def _guarded(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except WireError as error:
        raise Gone("refused", f"what came back was refused: {error}") from None


def _reset() -> None:
    """Torch's settings as every check finds them."""
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)

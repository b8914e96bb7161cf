"""The driver: it hands submissions to workers and takes their records, whatever befalls a worker.

A worker holds one submission at a time. When it dies, the submission goes to a new one; after a few
times the submission gets a record that says so, and the batch goes on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proctor import bans
from proctor.exercise import Exercise
from proctor.intake import take_in
from proctor.records import Record
from proctor.terms import Terms, banned_in, unrun
from proctor.zygote import Zygote

UNBORN = 3  # deaths of each worker before it is given anything
DEATHS = 12  # of workers on one submission: who kills them may have nothing to do with it
LOST = 3600.0  # seconds that one submission may lose to such deaths
GRACE = 60.0  # seconds beyond every budget after which a silent worker is given up
BUSY = 4  # times longer than its budgets say a submission may take on a machine that is busy


class EngineError(RuntimeError):
    """Grading cannot go on; the message says why and what to do."""


@dataclass
class _Worker:
    link: socket.socket
    pid: int | None = None  # its number where it runs, once it is ready
    student: str | None = None
    since: float = 0.0
    received: bytes = b""
    spent: dict[str, float] = field(default_factory=dict)


@dataclass
class Engine:
    """Workers for one exercise.

    Args:
        level: of isolation.
        jobs: how many workers.

    Attributes:
        spent: CPU seconds of workers that have ended, by what they went into.
    """

    level: str
    jobs: int = 1
    workers: list[_Worker] = field(default_factory=list)
    spent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"at least one worker is needed, got {self.jobs}")
        self._hello: list[dict[str, Any]] = []
        self._zygote: Zygote | None = None  # until this is entered
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Engine:
        """Start the workers; they load torch while the driver reads the exercise."""
        self._zygote = Zygote(self.level)
        for _ in range(self.jobs):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in [*self.workers]:
            self._stop(each)
        self._selector.close()
        self._zygote.close()

    def grade(
        self, exercise: Exercise, submissions: Mapping[str, bytes], terms: Terms
    ) -> Iterator[Record]:
        """The record of every submission, as each is ready.

        Raises:
            EngineError: if a wall cannot be put up, or workers die before they are given anything.
        """
        self._brief(exercise, terms)
        waiting = deque(submissions)
        lost: dict[str, list[float]] = {}  # what each try took that its worker did not survive
        unborn = 0
        patience = GRACE + BUSY * terms.limits.total_wall
        while waiting or any(w.student is not None for w in self.workers):
            for each in [*self.workers]:
                if each.student is None and waiting:
                    self._give(each, waiting.popleft(), submissions)
            for each, reply in self._replies(patience):
                if reply is not None and "ready" in reply:
                    each.pid, unborn = reply["ready"], 0
                    continue
                student, each.student = each.student, None
                if reply is not None:
                    each.spent = reply["cpu"]
                    yield self._record(exercise, student, submissions, terms, reply)
                    continue
                said = self._zygote.complaint()
                self._stop(each)
                self._start()
                if each.pid is None:
                    unborn += 1
                    if unborn > UNBORN * self.jobs:  # they may all have died at once
                        raise EngineError(f"no worker starts at level {self.level}: {said}")
                elif student is not None:
                    lost.setdefault(student, []).append(time.monotonic() - each.since)
                tries = lost.get(student, [])
                if student is not None and len(tries) < DEATHS and sum(tries) < LOST:
                    waiting.append(student)
                elif student is not None:
                    reason = f"grading stopped {len(tries)} times on this submission"
                    yield self._given_up(exercise, student, submissions[student], terms, reason)

    def _record(
        self,
        exercise: Exercise,
        student: str,
        submissions: Mapping[str, bytes],
        terms: Terms,
        reply: dict[str, Any],
    ) -> Record:
        if "stop" in reply:
            raise EngineError(f"a wall could not be put up ({reply['stop']}): run `proctor doctor`")
        if "failed" in reply:
            reason = f"the grader failed on this submission ({reply['failed']})"
            return self._given_up(exercise, student, submissions[student], terms, reason)
        return Record.from_bytes(reply["record"].encode("ascii"))

    def _brief(self, exercise: Exercise, terms: Terms) -> None:
        banned = banned_in(exercise)
        released = [part.released for part in exercise.parts if part.kind != "check"]
        preload = bans.imported_in([*released, *exercise.examples], banned)
        readable = bans.library_folders(preload)
        self._hello = [
            # what the forking process may know, and with it every candidate
            {"banned": banned, "preload": preload, "readable": readable},
            # what the examiner alone may know
            {"exercise": exercise.as_data(), "terms": terms.as_data()},
        ]
        for each in self.workers:
            self._greet(each)

    def _start(self) -> None:
        """Have a worker forked, by a new zygote where there is none that could."""
        try:
            link = self._zygote.fork()
        except OSError:
            self._zygote.close()
            self._zygote = Zygote(self.level)
            link = self._zygote.fork()
        started = _Worker(link)
        self.workers.append(started)
        self._selector.register(link, selectors.EVENT_READ, started)
        self._greet(started)

    def _greet(self, each: _Worker) -> None:
        for part in self._hello:
            self._tell(each, part)

    def _give(self, each: _Worker, student: str, submissions: Mapping[str, bytes]) -> None:
        each.student, each.since = student, time.monotonic()
        data = base64.b64encode(submissions[student]).decode()
        self._tell(each, {"student": student, "data": data})

    def _tell(self, each: _Worker, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # its end is seen where its replies are read
            each.link.sendall(json.dumps(message).encode() + b"\n")

    def _replies(self, patience: float) -> Iterator[tuple[_Worker, dict[str, Any] | None]]:
        """Replies that have come in; None from a worker that died or was given up."""
        for event, _ in self._selector.select(timeout=1.0):
            each: _Worker = event.data
            part = b""
            with contextlib.suppress(ConnectionError):
                part = each.link.recv(2**20)
            if not part:
                yield each, None
                continue
            each.received += part
            while b"\n" in each.received:
                line, each.received = each.received.split(b"\n", 1)
                yield each, json.loads(line)
        now = time.monotonic()
        for each in [*self.workers]:
            if each.student is not None and now - each.since > patience:
                self._zygote.end(each.pid)

    def _stop(self, each: _Worker) -> None:
        """Let a worker go, which ends it if it has not ended by itself."""
        self.workers.remove(each)
        self.spent.update(each.spent)
        self._selector.unregister(each.link)
        each.link.close()

    def _given_up(
        self, exercise: Exercise, student: str, data: bytes, terms: Terms, reason: str
    ) -> Record:
        taken = replace(take_in(data, exercise), reason=reason)
        return unrun(exercise, student, terms, taken, "crashed")


def versions(exercise: Exercise) -> dict[str, str]:
    """Versions of what decides a mark beside the cells: engine, libraries, torch, Python."""
    import importlib.metadata

    sources = [part.source for part in exercise.parts]
    libraries = bans.library_folders(bans.imported_in(sources, ()))
    found = {
        "engine": _digest_of(Path(__file__).parent),
        "torch": importlib.metadata.version("torch"),
        "python": ".".join(map(str, sys.version_info[:2])),
    }
    return found | {Path(p).name: _digest_of(Path(p)) for p in libraries}


def _digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]

"""A worker: it reads an exercise and submissions, and writes a record for each.

It starts by forking the process that will fork the candidates, while it knows nothing that students
should not; the exercise with its hidden tests comes afterwards. One JSON object a line, in and out.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any, BinaryIO

from proctor import libc
from proctor.exercise import Exercise, Part
from proctor.limits import Limits


def main() -> None:
    """Serve a driver until it closes this process's standard input."""
    if libc.LINUX:
        libc.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers itself
    incoming, replies = os.dup(0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0), os.dup2(nothing, 1)

    gc.disable()  # nothing of what is imported now is ever garbage
    from proctor import forkserver
    from proctor.grading import Grader

    forkserver.warm_up()
    # without a buffer: what follows must not be in memory yet when the fork server splits off
    public = json.loads(_line(incoming) or "null")
    if public is None:
        return
    names = {k: tuple(public[k]) for k in ("banned", "preload", "readable")}
    server = forkserver.ForkServer(**names)
    requests = os.fdopen(incoming, "rb")
    private = _read(requests)
    grader = private and Grader(exercise_of(private["exercise"]), server, terms_of(private))
    gc.freeze()
    gc.enable()
    _write(replies, {"ready": True})
    loaded = time.process_time()
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
        mine = {"loading": loaded, "examiner": time.process_time() - loaded}
        _write(replies, reply | {"cpu": mine | server.spent})
    server.close()


def public_part(banned: tuple[str, ...], preload: tuple[str, ...], readable: tuple[str, ...]):
    """What the forking process may know, and with it every candidate."""
    return {"banned": banned, "preload": preload, "readable": readable}


def private_part(exercise: Exercise, terms: Any) -> dict[str, Any]:
    """What the examiner alone may know."""
    terms_data = asdict(terms) | {"secret": terms.secret.hex()}
    return {"exercise": exercise_data(exercise), "terms": terms_data}


def exercise_data(exercise: Exercise) -> dict[str, Any]:
    """An exercise as plain data."""
    return {
        "assignment": exercise.assignment,
        "parts": [asdict(part) for part in exercise.parts],
        "examples": list(exercise.examples),
        "titles": exercise.titles,
    }


def exercise_of(data: dict[str, Any]) -> Exercise:
    """The exercise that :func:`exercise_data` wrote."""
    parts = tuple(Part(**part) for part in data["parts"])
    return Exercise(data["assignment"], parts, tuple(data["examples"]), data["titles"])


def terms_of(private: dict[str, Any]) -> Any:
    """The terms that :func:`private_part` wrote."""
    from proctor.terms import Terms

    terms = dict(private["terms"])
    limits = Limits(**terms.pop("limits"))
    return Terms(**terms | {"secret": bytes.fromhex(terms["secret"]), "limits": limits})


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


if __name__ == "__main__":
    sys.exit(main())

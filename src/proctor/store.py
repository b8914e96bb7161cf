"""The folder of grade records, and the course's secret.

``folder/NN_name/KEY.json`` holds one record, written whole or not at all; ``KEY`` is a hash of the
student's cells, the checks, the versions, the seed, the limits and the isolation level. So a killed
run resumes where it was, grading again runs only what changed, and two graders cannot disagree.
``folder/NN_name/current/`` says which record of each student counts: a new one counts once it is
published, so what would move can be listed before anything does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from proctor.files import StoreError, named_errors, write_beside, write_whole
from proctor.records import Record, RecordError

SECRET_VARIABLE = "PROCTOR_SECRET"
SECRET_BYTES = 32
STALE = 3600.0  # seconds after which a half-written file has no writer any more


@dataclass(frozen=True)
class Move:
    """A grade that differs between two gradings.

    Args:
        student: whose.
        before: points counted so far; None where there was no record.
        after: points of the new record; None where there is none any more.
        points: points there are.
        checks: by ``grade_id``, points before and after of each check that differs.
    """

    student: str
    before: float | None
    after: float | None
    points: float
    checks: Mapping[str, tuple[float, float]]


class Records:
    """The records of a course in one folder.

    Args:
        folder: made when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, assignment: str, key: str) -> Path:
        """Where the record with this key lies, or will."""
        return self._place(assignment) / f"{_file_name(key, 'key')}.json"

    def get(self, assignment: str, key: str) -> Record | None:
        """The record with this key; None where there is none, or one that is damaged."""
        try:
            record = Record.from_bytes(self.path(assignment, key).read_bytes())
        except (OSError, RecordError):
            return None
        return record if (record.assignment, record.key) == (assignment, key) else None

    def put(self, record: Record) -> Path:
        """Write a record whole or not at all; one with equal bytes is left alone.

        Raises:
            StoreError: if the folder is full, read-only or otherwise not to be written to; what it
                held before is unharmed.
        """
        path = self.path(record.assignment, record.key)
        data = record.to_bytes()
        with contextlib.suppress(OSError):
            if path.read_bytes() == data:
                return path
        write_whole(path, data)
        return path

    def all(self, assignment: str) -> Iterator[Record]:
        """Every sound record of an assignment, past ones too, by key."""
        for path in sorted(self._place(assignment).glob("*.json")):
            record = self.get(assignment, path.stem)
            if record is not None:
                yield record

    def current(self, assignment: str) -> dict[str, Record]:
        """The record that counts, by student; without those whose record is lost or damaged."""
        found = {}
        for path in self._place(assignment).glob("current/*.json"):
            record = self._pointed(assignment, path)
            if record is not None:
                found[record.student] = record
        return dict(sorted(found.items()))

    def find(self, assignment: str, student: str) -> Record | None:
        """The record of one student that counts."""
        return self._pointed(assignment, self._pointer(assignment, student))

    def publish(self, records: Iterable[Record]) -> None:
        """Let these records count for their students; each is written first where it is not yet.

        Raises:
            StoreError: as :meth:`put`; students before the one that failed have their new record.
        """
        for record in records:
            self.put(record)
            pointer = json.dumps({"student": record.student, "key": record.key}).encode()
            path = self._pointer(record.assignment, record.student)
            with contextlib.suppress(OSError):
                if path.read_bytes() == pointer:
                    continue
            write_whole(path, pointer)

    def withdraw(self, assignment: str, student: str) -> None:
        """No record of this student counts any more; the records themselves stay."""
        self._pointer(assignment, student).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that were killed left half-written more than an hour ago."""
        for path in self.folder.glob("*/**/.*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink()

    def _place(self, assignment: str) -> Path:
        return self.folder / _file_name(assignment, "assignment")

    def _pointer(self, assignment: str, student: str) -> Path:
        # a hash, since a student's name may hold what a file name cannot
        name = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self._place(assignment) / "current" / f"{name}.json"

    def _pointed(self, assignment: str, pointer: Path) -> Record | None:
        try:
            data = json.loads(pointer.read_bytes())
            record = self.get(assignment, data["key"])
            return record if record is not None and record.student == data["student"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def compare(before: Mapping[str, Record], after: Mapping[str, Record]) -> list[Move]:
    """Whose grade moves from one grading to another, and in which checks.

    Args:
        before: records by student, as :meth:`Records.current` gives them.
        after: the new ones.

    Returns:
        One entry a student whose points differ, in any check or in all; by student.
    """
    moves = []
    for student in sorted(before.keys() | after.keys()):
        old, new = before.get(student), after.get(student)
        was = {c.grade_id: c.earned for c in old.checks} if old else {}
        now = {c.grade_id: c.earned for c in new.checks} if new else {}
        differ = {
            name: (was.get(name, 0.0), now.get(name, 0.0))
            for name in dict.fromkeys([*was, *now])
            if was.get(name, 0.0) != now.get(name, 0.0)
        }
        if differ or (old is None) != (new is None) or (old and new and old.points != new.points):
            moves.append(
                Move(
                    student,
                    old.earned if old else None,
                    new.earned if new else None,
                    (new or old).points,
                    differ,
                )
            )
    return moves


def course_secret(state: Path) -> bytes:
    """The course's secret: from ``PROCTOR_SECRET``, or from ``state/secret``, made when missing.

    Whoever knows it can predict the numbers that the checks draw. The file is readable by its owner
    alone; graders on other machines get the same seeds from the same secret, so copy it with the
    course, or set the variable.

    Args:
        state: the folder of the course's state, out of students' reach.

    Returns:
        At least 16 bytes.

    Raises:
        StoreError: if the secret is too short or readable by others, or cannot be made.
    """
    given = os.environ.get(SECRET_VARIABLE)
    if given is not None:
        return _long_enough(given.strip().encode("utf-8", "surrogateescape"), SECRET_VARIABLE)
    path = Path(state) / "secret"
    if not path.exists():
        _create(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n")
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StoreError(f"the course's secret {path} cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & 0o077:
        raise StoreError(
            f"the course's secret {path} is open to other users (mode {mode & 0o777:o}): "
            f"run chmod 600 {path}, and make a new one if students could read it; where modes "
            f"are not kept, set {SECRET_VARIABLE} instead"
        )
    return _long_enough(secret, str(path))


def _long_enough(secret: bytes, where: str) -> bytes:
    if len(secret) < 16:
        raise StoreError(f"the secret in {where} has {len(secret)} bytes; at least 16 are needed")
    return secret


def _create(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, unless another process has just done so."""
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = write_beside(path, data)  # such files have mode 0600
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:
            os.replace(partial, path)  # a file system without hard links
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)


def _file_name(name: str, what: str) -> str:
    if not name or name.startswith(".") or set(name) & set('/\\:\0"<>|?*') or len(name) > 128:
        raise ValueError(f"{name!r} is no {what}: it cannot be part of a file's name")
    return name

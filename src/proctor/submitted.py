"""The folder of submissions: ``submitted/STUDENT/NN_name/name.ipynb``, as nbgrader lays it out.

Nothing in it is moved, renamed or followed elsewhere. Whatever lies there is either a submission,
readable or not, or is named as odd.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from proctor.kept import DEFAULT, Bounds
from proctor.reading import too_large
from proctor.records import Note

IGNORED = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".gitkeep", ".gitignore"})
DEPTH = 3  # folders within a student's folder for an exercise
ENTRIES = 2000  # files in it


@dataclass(frozen=True)
class Found:
    """One student's submission of one exercise.

    Args:
        student: the name of the folder.
        assignment: ``NN_name``.
        path: the notebook; None where there is none to be read.
        notes: what was repaired to find it.
        reason: why there is none to be read.
    """

    student: str
    assignment: str
    path: Path | None
    notes: tuple[Note, ...] = ()
    reason: str = ""

    def read(self, bounds: Bounds = DEFAULT) -> tuple[bytes, str]:
        """The bytes of the notebook, or the reason why there are none; never raises."""
        return (b"", self.reason) if self.path is None else read_file(self.path, bounds.size)

    def timestamp(self) -> str:
        """When it was handed in, as nbgrader's ``timestamp.txt`` beside the notebook says."""
        if self.path is None:
            return ""
        data, _ = read_file(self.path.with_name("timestamp.txt"), 200)
        return data.decode("utf-8", "replace").strip()


def walk(submitted: Path, assignments: Collection[str]) -> tuple[list[Found], list[str]]:
    """Every submission in a folder, and a sentence about everything else in it.

    Args:
        submitted: the folder of students' folders.
        assignments: the exercises there are, ``NN_name`` each.

    Returns:
        Submissions by student and exercise, and what lies there that is none.
    """
    found: list[Found] = []
    odd: list[str] = []
    for entry in _entries(submitted, odd, ""):
        if not entry.is_dir(follow_symlinks=False):
            odd.append(
                f"{_shown(entry.name)}: {_kind(entry)}, where students' folders are expected"
            )
            continue
        own, rest = _of_student(entry, assignments, odd)
        found += own
        odd += rest
    return sorted(found, key=lambda f: (f.student, f.assignment)), odd


def read_file(path: Path, size: int) -> tuple[bytes, str]:
    """The bytes of a plain file of at most ``size`` bytes, or the reason why not; never raises.

    A symbolic link is not followed, and a pipe or a device is not waited for.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if path.is_symlink():
            return b"", "it is a symbolic link, which is not followed: hand in the file itself"
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        return b"", _why_not(error)
    try:
        mode = os.fstat(handle)
        if not stat.S_ISREG(mode.st_mode):
            return b"", f"it is {_named(mode.st_mode)}, not a file"
        if mode.st_size > size:
            return b"", too_large(mode.st_size, size)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(size + 1)  # it may have grown since
        return (data, "") if len(data) <= size else (b"", "the file is being written to")
    except (OSError, MemoryError) as error:
        return b"", _why_not(error)
    finally:
        os.close(handle)


def _of_student(
    folder: os.DirEntry, assignments: Collection[str], odd: list[str]
) -> tuple[list[Found], list[str]]:
    """What one student handed in: at most one submission an exercise."""
    student = folder.name
    found: dict[str, Found] = {}
    rest: list[str] = []
    where = _shown(student)
    entries = list(_entries(Path(folder.path), rest, where))
    if not entries:
        rest.append(f"{where}: the folder is empty")
    # folders under their right names come first, so that nothing takes their place
    for entry in sorted(entries, key=lambda e: (e.name not in assignments, e.name)):
        shown = f"{where}/{_shown(entry.name)}"
        assignment = _meant(entry.name, assignments)
        if assignment is None:
            known = ", ".join(sorted(assignments))
            rest.append(f"{shown}: {_kind(entry)}; the exercises here are {known}")
        elif assignment in found:
            rest.append(f"{shown}: left unread, since {where}/{assignment} is there")
        elif entry.is_symlink():
            found[assignment] = Found(student, assignment, None, (), f"it is {_kind(entry)}")
        elif entry.is_dir(follow_symlinks=False):
            found[assignment] = _in_folder(student, assignment, entry, rest)
        else:
            said = f"it lay at {shown}, outside a folder of its own"
            note = Note("the file was found in another place", said)
            found[assignment] = Found(student, assignment, Path(entry.path), (note,))
    return list(found.values()), rest


def _in_folder(student: str, assignment: str, folder: os.DirEntry, rest: list[str]) -> Found:
    """The notebook in a student's folder for an exercise."""
    wanted = f"{assignment.partition('_')[2]}.ipynb"
    notes = []
    if folder.name != assignment:
        said = f"the folder was called {_shown(folder.name)}"
        notes.append(Note("the folder was called something else", said))
    files = sorted(_files(Path(folder.path), rest, f"{_shown(student)}/{_shown(folder.name)}"))
    path = Path(folder.path) / wanted
    if path in files or path.is_symlink() or path.exists():
        chosen = path
    else:
        chosen = _best([file for file in files if file.suffix.lower() == ".ipynb"], wanted)
        chosen = chosen or _best([f for f in files if _alike(f.name, wanted)], wanted)
        if chosen is None:
            held = ", ".join(_shown(file.name) for file in files[:8]) or "nothing"
            reason = f"{wanted} is missing; the folder holds {held}"
            return Found(student, assignment, None, tuple(notes), reason)
        said = f"the file was called {_shown(str(chosen.relative_to(folder.path)))}"
        notes.append(Note("the file was called something else", said))
    others = [f for f in files if f != chosen and f.suffix.lower() == ".ipynb"]
    if others:
        said = ", ".join(_shown(str(file.relative_to(folder.path))) for file in others[:8])
        notes.append(Note("more than one notebook was handed in", f"left unread: {said}"))
    return Found(student, assignment, chosen, tuple(notes))


def _files(folder: Path, rest: list[str], where: str, depth: int = DEPTH) -> Iterator[Path]:
    """Plain files below a folder, not through links."""
    for number, entry in enumerate(_entries(folder, rest, where)):
        if number >= ENTRIES:
            rest.append(f"{where}: more than {ENTRIES} files; the rest was not looked at")
            return
        if entry.is_symlink():
            rest.append(f"{where}/{_shown(entry.name)}: {_kind(entry)}")
        elif entry.is_dir(follow_symlinks=False):
            if depth > 1 and entry.name != ".ipynb_checkpoints":
                shown = f"{where}/{_shown(entry.name)}"
                yield from _files(Path(entry.path), rest, shown, depth - 1)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _best(files: list[Path], wanted: str) -> Path | None:
    """Of several files the one whose name is nearest, of these the one that was saved last."""

    def rank(path: Path) -> tuple[bool, float, str]:
        try:
            saved = path.stat(follow_symlinks=False).st_mtime
        except OSError:
            saved = 0.0
        return _alike(path.name, wanted), saved, str(path)

    return max(files, key=rank, default=None)


def _alike(name: str, wanted: str) -> bool:
    """Whether a name is a variant of the right one: a copy, another case, one more ending."""
    return _plain(name).startswith(_plain(wanted.removesuffix(".ipynb")))


def _meant(name: str, assignments: Collection[str]) -> str | None:
    """The exercise that a name stands for, where it is one beyond doubt."""
    if name in assignments:
        return name
    plain = _plain(name.removesuffix(".ipynb"))
    fits = [a for a in assignments if plain in (_plain(a), _plain(a.partition("_")[2]))]
    return fits[0] if len(fits) == 1 else None


def _plain(name: str) -> str:
    """A name without case, leading zeros and signs."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).lstrip("0")


def _entries(folder: Path, odd: list[str], where: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if entry.name not in IGNORED]
    except OSError as error:
        odd.append(f"{where or folder}: {_why_not(error)}")
        return []
    return sorted(kept, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry) -> str:
    try:
        if entry.is_symlink():
            return "a symbolic link, which is not followed"
        return _named(entry.stat(follow_symlinks=False).st_mode)
    except OSError as error:
        return _why_not(error)


def _named(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "a device"


def _why_not(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        return "it is not there"
    if code == errno.EACCES:
        return "it may not be read: see to its permissions"
    if code == errno.ELOOP:
        return "it is a symbolic link, which is not followed: hand in the file itself"
    return f"it cannot be read ({getattr(error, 'strerror', None) or error})"


def _shown(name: str) -> str:
    """A file's name as one line of plain text."""
    plain = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)[:120]

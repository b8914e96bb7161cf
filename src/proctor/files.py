"""Files that are written whole or not at all, and what to do where they cannot be."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class StoreError(OSError):
    """A file cannot be read or written; the message says why and what to do."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and let it survive a loss of power."""
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = write_beside(path, data)
        try:
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)
            raise
        _sync(path.parent)


def write_beside(path: Path, data: bytes) -> str:
    """The data in a file of another name beside ``path``, on the disk; that name."""
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem[:16]}.", suffix=".partial", dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return name


def _sync(folder: Path) -> None:
    # not every system can open a folder or sync one; the rename is in order all the same
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = (
            "free some space and run again: everything graded so far is kept"
            if full
            else "see that this folder can be written to, and run again"
        )
        said = f"{path} could not be written: {error.strerror or error}; {mend}"
        raise StoreError(said) from None

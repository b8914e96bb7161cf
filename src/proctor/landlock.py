"""Landlock: this process may read some places, write few, and use no network, from now on."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from proctor import libc

READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
WRITE_FILE = 1 << 1
# every file right of the first version; later ones are added where the kernel has them
FIRST_RIGHTS = (1 << 13) - 1
REFER, TRUNCATE, IOCTL = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2
ABSTRACT_SOCKETS, SIGNALS = 1, 2
BENEATH = 1


def version() -> int:
    """The Landlock version of this kernel; 0 where there is none."""
    if not libc.LINUX:
        return 0
    try:
        return libc.syscall(libc.LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict(readable: Iterable[str], devices: Iterable[str], hidden: Iterable[str]) -> None:
    """Allow reading below some folders, except what is hidden, and writing to some devices.

    Raises:
        OSError: if the kernel has no Landlock.
    """
    abi = version()
    rights = FIRST_RIGHTS
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL)):
        rights |= right if abi >= since else 0
    network = BIND_TCP | CONNECT_TCP if abi >= 4 else 0
    scope = ABSTRACT_SOCKETS | SIGNALS if abi >= 6 else 0
    # a kernel refuses a longer description than it knows
    wide = struct.pack("<QQQ", rights, network, scope)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = libc.syscall(libc.LANDLOCK_CREATE, wide, len(wide), 0)
    try:
        hidden = {os.path.realpath(path) for path in hidden}
        for folder in readable:
            for path, right in _places(os.path.realpath(folder), hidden):
                _allow(rules, path, right)
        for device in devices:
            _allow(rules, device, READ_FILE | WRITE_FILE)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.syscall(libc.LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _places(path: str, hidden: set[str]) -> Iterator[tuple[str, int]]:
    """The path, or everything beside what is hidden below it; names stay listed, not contents."""
    if path in hidden:
        return
    if not any(h.startswith(path + os.sep) for h in hidden):
        yield path, READ_FILE | READ_FOLDER if Path(path).is_dir() else READ_FILE
        return
    yield path, READ_FOLDER
    for entry in os.scandir(path):
        yield from _places(entry.path, hidden)


def _allow(rules: int, path: str, right: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        libc.syscall(libc.LANDLOCK_ADD, rules, BENEATH, struct.pack("<Qi", right, place), 0)
    finally:
        os.close(place)

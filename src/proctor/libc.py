"""The few calls of Linux that Python has no function for, by ctypes, each raising OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys

CLONE_CHILD_CLEARTID = 0x00200000
CLONE_CHILD_SETTID = 0x01000000
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECCOMP = 1, 24, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS = 36, 38, 40
SECCOMP_MODE_FILTER = 2
M_MMAP_THRESHOLD = -3

# Numbers that every architecture since 2019 shares.
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
CLONE = {"x86_64": 56, "aarch64": 220}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}

LINUX = sys.platform.startswith("linux")
MACHINE = platform.machine()
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def call(name: str, *args: object) -> int:
    """A function of the C library."""
    return _checked(name, getattr(_libc, name)(*args))


def syscall(number: int, *args: object) -> int:
    """A system call by its number."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _checked(f"system call {number}", _libc.syscall(ctypes.c_long(number), *wide))


def fork_into(namespaces: int) -> int:
    """Fork a child that is the first process of new namespaces; its number, 0 in the child.

    What the C library's fork does beside the call concerns other threads, of which there must be
    none, and the number by which the library knows this one, which is written here too.

    Raises:
        OSError: if these namespaces are refused, or this kind of machine is not known here.
    """
    if MACHINE not in CLONE:
        raise OSError(errno.ENOSYS, f"no namespaces on {MACHINE} here")
    place = ctypes.c_void_p()
    flags = namespaces | signal.SIGCHLD
    try:
        prctl(PR_GET_TID_ADDRESS, ctypes.addressof(place))
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    except OSError:  # a kernel that does not tell
        place = ctypes.c_void_p()
    last = [place, ctypes.c_long(0)] if MACHINE == "x86_64" else [ctypes.c_long(0), place]
    numbers = [ctypes.c_long(n) for n in (CLONE[MACHINE], flags, 0, 0)]
    ctypes.pythonapi.PyOS_BeforeFork()
    # a call that keeps Python's lock, so that the child holds it too
    pid = ctypes.PyDLL(None, use_errno=True).syscall(*numbers, *last)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return _checked("clone", pid)


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount, or bind, one place on another."""
    call("mount", source.encode(), target.encode(), _text(kind), ctypes.c_ulong(flags), _text(data))


def read_only(path: str) -> None:
    """Make one mount read-only."""
    attributes = struct.pack("<QQQQ", ATTR_RDONLY, 0, 0, 0)
    syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), 0, attributes, len(attributes))


def copy_tree(path: str, attributes: int) -> int:
    """A detached copy of what is mounted at and below a place, as a file descriptor."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    tree = syscall(OPEN_TREE, AT_FDCWD, path.encode(), flags)
    set_to = struct.pack("<QQQQ", attributes, 0, 0, 0)
    syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, set_to, len(set_to))
    return tree


def attach(tree: int, target: str) -> None:
    """Mount a copied tree on a place, and close it."""
    syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def enter_root(path: str) -> None:
    """Make a mounted folder the root, and let the old root go."""
    os.chdir(path)
    syscall(PIVOT_ROOT[MACHINE], b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def prctl(option: int, value: int = 0, pointer: object = 0) -> int:
    """An attribute of this process."""
    return call("prctl", option, ctypes.c_ulong(value), pointer, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # beyond the last one
            break
    header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    syscall(CAPSET[MACHINE], header, nothing)


def die_with_parent() -> None:
    """Be killed when the process that started this one ends."""
    prctl(PR_SET_PDEATHSIG, 9)


def give_back_large_blocks() -> None:
    """Let every block of 128 KiB or more be the system's again as soon as it is freed.

    That is where the C library starts; left to itself it raises this with use, keeps what was
    freed, and what a process has says little about what its program holds.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(M_MMAP_THRESHOLD, 128 * 1024)


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _checked(name: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result

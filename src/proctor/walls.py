"""The inner wall: what a process gives up before it runs a line of student code.

==============  ==========================================================================
``jail``        a bubblewrap jail around the workers, and ``namespaces`` inside it
``namespaces``  own user, pid, mount, network and ipc namespaces over a read-only root that
                holds the interpreter and nothing else; a private folder of limited size
``landlock``    Landlock rules instead of namespaces; no place to write
``limits``      resource limits and a process group, no more
==============  ==========================================================================

Every level has the resource limits. All but ``limits`` give up capabilities and the right to gain
any, and end in a filter of system calls (:mod:`proctor.seccomp`). The candidate sees no ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from proctor import landlock, libc, seccomp
from proctor.limits import Limits

LEVELS = ("jail", "namespaces", "landlock", "limits")
DEVICES = ("/dev/null", "/dev/full", "/dev/urandom", "/dev/random")  # none of shared memory
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache")
NOBODY = 65534  # who a candidate of root is outside its namespace
STUDENT = 1000  # who every candidate is inside
# The scratch folder covers what it is mounted on: not /tmp where the interpreter or the course is.
IN_TMP = any(path.startswith("/tmp/") for path in (sys.prefix, __file__))
SCRATCH = "/scratch" if IN_TMP else "/tmp"


@dataclass(frozen=True)
class Walls:
    """What one candidate gets to see, and at which level.

    Args:
        level: one of :data:`LEVELS`.
        readable: folders that the candidate may read, beside the system's and the interpreter's.
        hidden: files and folders below them that it may not.
        limits: what it may use.
    """

    level: str = "namespaces"
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(
                f"unknown isolation level {self.level!r}; choose one of {', '.join(LEVELS)}"
            )

    @property
    def own_namespaces(self) -> bool:
        """Whether the candidate becomes the first process of a pid namespace of its own."""
        return self.level in ("jail", "namespaces")


def interpreter() -> tuple[str, ...]:
    """Folders without which this Python does not run."""
    folders = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix]
    return tuple(dict.fromkeys(f for f in folders if os.path.exists(f)))


def resolved(places: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Where the symbolic links among some places end, and what has to be there beside these links.

    A folder within another of them is there with it.
    """
    links = {path: os.path.realpath(path) for path in places if os.path.islink(path)}
    real: list[str] = []
    for path in sorted({links.get(path, path) for path in places}, key=len):
        if not any(path.startswith(above + os.sep) for above in real):
            real.append(path)
    return links, real


def fork_into_namespaces() -> int:
    """First step: a child that is the first process of namespaces of its own; 0 in the child.

    Raises:
        OSError: if namespaces are refused.
    """
    return libc.fork_into(
        libc.CLONE_NEWUSER
        | libc.CLONE_NEWPID
        | libc.CLONE_NEWNS
        | libc.CLONE_NEWNET
        | libc.CLONE_NEWIPC
        | libc.CLONE_NEWUTS
    )


def map_user(pid: int) -> None:
    """Let a child's namespace have one user; written from outside, where root may choose who."""
    outside = NOBODY if os.geteuid() == 0 else os.geteuid()
    group = NOBODY if os.geteuid() == 0 else os.getegid()
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{STUDENT} {outside} 1"),
        ("gid_map", f"{STUDENT} {group} 1"),
    ):
        Path(f"/proc/{pid}/{name}").write_text(text)


def build_root(walls: Walls) -> None:
    """Second step: a root of its own, read-only but for the scratch folder."""
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
    # copied as the user who may enter these places, attached as the one who owns the new root
    links, trees = _copies((*interpreter(), *walls.readable))
    os.setresgid(STUDENT, STUDENT, STUDENT)
    os.setresuid(STUDENT, STUDENT, STUDENT)
    root = "/tmp"
    _tmpfs(root, "64k", mode="755")
    for path, points_to in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(points_to, root + path)
    for path, tree in trees.items():
        _place(path, tree, root)
    _hide(walls.hidden, root)
    os.makedirs(root + SCRATCH, exist_ok=True)
    _tmpfs(root + SCRATCH, str(walls.limits.scratch), mode="700")
    libc.enter_root(root)
    libc.read_only("/")
    os.chdir(SCRATCH)


def close_in(walls: Walls, start: int) -> None:
    """Last step: limits, privileges, the filter of system calls.

    Args:
        walls: what was asked for.
        start: bytes of address space before the fork; a candidate sees no ``/proc`` to count it.
    """
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(HOME=SCRATCH, TMPDIR=SCRATCH, MPLCONFIGDIR=SCRATCH, OMP_NUM_THREADS="1")
    if not walls.own_namespaces:
        os.setpgid(0, 0)
        os.chdir("/")
    libc.give_back_large_blocks()
    _limit(walls.limits, walls.own_namespaces, start)
    if walls.level == "limits":
        return
    if walls.level == "landlock":
        places = (*interpreter(), *walls.readable)
        landlock.restrict(places, DEVICES, walls.hidden)
    libc.drop_capabilities()
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.die_with_parent()  # giving up capabilities has undone an earlier wish
    if seccomp.available():
        seccomp.install()


def address_space() -> int:
    """Bytes of address space that this process has now."""
    if not libc.LINUX:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit(limits: Limits, counts_alone: bool, start: int) -> None:
    """Resource limits of this process; ``counts_alone`` where its user has no other process."""
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    if counts_alone:
        bounds[resource.RLIMIT_NPROC] = limits.processes
    if libc.LINUX:
        bounds[resource.RLIMIT_AS] = start + limits.memory
    for kind, value in bounds.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _tmpfs(path: str, size: str, mode: str) -> None:
    flags = libc.MS_NOSUID | libc.MS_NODEV
    libc.mount("tmpfs", path, "tmpfs", flags, f"size={size},nr_inodes=4096,mode={mode}")


def _copies(places: tuple[str, ...]) -> tuple[dict[str, str], dict[str, int]]:
    """Symbolic links among the places, and a copy of the tree at each of the others."""
    links, real = resolved(places)
    attributes = libc.ATTR_RDONLY | libc.ATTR_NOSUID
    trees = {path: libc.copy_tree(path, attributes | libc.ATTR_NODEV) for path in real}
    for device in DEVICES:
        trees[device] = libc.copy_tree(device, attributes)
    return links, trees


def _place(path: str, tree: int, root: str) -> None:
    """Attach a copied tree at its own path under the new root."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(f"/proc/self/fd/{tree}"):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    libc.attach(tree, target)


def _hide(hidden: tuple[str, ...], root: str) -> None:
    """Cover places with something empty that nobody may open."""
    if not hidden:
        return
    file, folder = f"{root}/.nothing", f"{root}/.none"
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o000))
    os.mkdir(folder, 0o000)
    for path in hidden:
        target = root + os.path.realpath(path)
        if os.path.exists(target):
            cover = folder if os.path.isdir(target) else file
            libc.mount(cover, target, None, libc.MS_BIND)

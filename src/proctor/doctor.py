"""What walls this machine offers, tried out one by one, and how to get those it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proctor import jail, landlock, libc, seccomp, walls
from proctor.walls import LEVELS


@dataclass(frozen=True)
class Finding:
    """One wall that was tried.

    Args:
        level: of isolation that needs it.
        works: whether it was put up.
        said: what was found.
        mend: what to do where it was not.
    """

    level: str
    works: bool
    said: str
    mend: str = ""


def examine() -> list[Finding]:
    """Try every wall, strongest first."""
    return [_jail(), _namespaces(), _landlock(), _filter(), _limits()]


def offered() -> list[str]:
    """Levels that work here, strongest first."""
    found = {f.level: f.works for f in examine() if f.level != "filter"}
    if not found["namespaces"]:
        found["jail"] = False
    return [level for level in LEVELS if found[level]]


def choose(wanted: str | None) -> str:
    """The level to grade at: the wanted one, or the strongest that there is.

    Raises:
        ValueError: if the wanted level is not to be had, or nothing better than ``limits`` is and
            it was not asked for; the message names the mend.
    """
    if wanted is not None and wanted not in LEVELS:
        raise ValueError(f"unknown isolation level {wanted!r}; choose one of {', '.join(LEVELS)}")
    levels = offered()
    if wanted in levels:
        return wanted
    if wanted is None and levels[0] != "limits":
        return levels[0]
    mends = [f"{f.said}: {f.mend}" for f in examine() if not f.works]
    refused = f"isolation level {wanted} is" if wanted else "walls around student code are"
    raise ValueError(
        f"{refused} not to be had on this machine. " + "; ".join(mends) + ". "
        "Where every submission is trusted, --isolation limits grades without walls"
    )


def _jail() -> Finding:
    if shutil.which("bwrap") is None:
        mend = "install the package bubblewrap (apt install bubblewrap, dnf install bubblewrap)"
        return Finding("jail", False, "there is no bwrap command", mend)
    python = [sys.executable, "-I", "-S", "-c", ""]  # what is to run there, not just anything
    tried = subprocess.run([*jail.command(), *python], capture_output=True, text=True)
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        return Finding("jail", False, f"bwrap does not start ({said})", _namespace_mend())
    version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout.strip()
    return Finding("jail", True, version)


def _namespaces() -> Finding:
    if not libc.LINUX:
        return Finding("namespaces", False, f"{sys.platform} has no namespaces", "grade on Linux")
    said = _try(_put_up_namespaces)
    if said:
        return Finding("namespaces", False, f"namespaces are refused ({said})", _namespace_mend())
    return Finding("namespaces", True, "user, pid, mount, network and ipc namespaces")


def _landlock() -> Finding:
    version = landlock.version()
    if not version:
        mend = "start a kernel from 5.13 on with landlock among its lsm= modules"
        return Finding("landlock", False, "this kernel has no Landlock", mend)
    if not seccomp.available():
        mend = "grade on x86_64 or aarch64"
        return Finding("landlock", False, f"there is no call filter for {libc.MACHINE}", mend)
    said = _try(lambda: landlock.restrict(walls.interpreter(), walls.DEVICES, ()))
    if said:
        mend = "let the container's seccomp profile allow the landlock calls"
        return Finding("landlock", False, f"Landlock is refused ({said})", mend)
    return Finding("landlock", True, f"Landlock, version {version}")


def _filter() -> Finding:
    if not seccomp.available():
        said = f"there is no call filter for {libc.MACHINE}"
        return Finding("filter", False, said, "grade on x86_64 or aarch64 Linux")
    said = _try(_install_filter)
    if said:
        mend = "let the container's seccomp profile allow seccomp"
        return Finding("filter", False, f"the call filter is refused ({said})", mend)
    return Finding("filter", True, "a filter of system calls")


def _limits() -> Finding:
    return Finding("limits", True, "resource limits and a process group")


def _put_up_namespaces() -> None:
    go, allow = os.pipe()
    news, tell = os.pipe()
    pid = walls.fork_into_namespaces()
    if pid == 0:
        os.read(go, 1)  # until its user is mapped from outside its namespace
        os.close(news)
        with os.fdopen(tell, "w") as said:
            said.write(_failure(lambda: walls.build_root(walls.Walls("namespaces"))))
        os._exit(0)
    os.close(tell)
    try:
        walls.map_user(pid)
    except OSError as error:
        raise OSError(1, f"the user of the namespace cannot be set: {error.strerror}") from None
    finally:
        os.write(allow, b"\n")
        with os.fdopen(news) as stream:
            said = stream.read()
        status = os.waitpid(pid, 0)[1]
    if said or status:
        raise OSError(1, said or f"it ended with status {status}")


def _install_filter() -> None:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install()
    if os.access("/", os.R_OK) and _forks():
        raise OSError(1, "it lets processes start")


def _forks() -> bool:
    try:
        pid = os.fork()
    except PermissionError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _try(step: Callable[[], None]) -> str:
    """Why a step fails in a process of its own; empty where it does not."""
    news, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, _failure(step).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(news) as stream:
        said = stream.read()
    status = os.waitpid(pid, 0)[1]
    return said or (f"it ended with status {status}" if status else "")


def _failure(step: Callable[[], None]) -> str:
    """Why a step fails in this process; empty where it does not."""
    try:
        step()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _namespace_mend() -> str:
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    disabled = Path("/proc/sys/kernel/unprivileged_userns_clone")
    most = Path("/proc/sys/user/max_user_namespaces")
    if restricted.exists() and restricted.read_text().strip() == "1":
        return (
            "AppArmor restricts user namespaces here: allow them with an AppArmor profile for this "
            "Python and bwrap, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if disabled.exists() and disabled.read_text().strip() == "0":
        return "turn them on with sysctl kernel.unprivileged_userns_clone=1"
    if most.exists() and most.read_text().strip() == "0":
        return "allow some with sysctl user.max_user_namespaces=10000"
    return (
        "in a container, start it with a seccomp profile that allows unshare, mount and pivot_root "
        "(podman and docker: --security-opt seccomp=unconfined, or --privileged)"
    )

"""A filter of system calls, installed last: what student code has no business calling fails.

Most calls are open; what starts processes or programs, opens sockets, reaches other processes,
mounts, or is a favourite of kernel exploits answers "operation not permitted". So does memory that
no limit of data counts: shared without a file, or of a stack that grows.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from proctor import libc

# x86_64 number, aarch64 number; None where there is no such call
CALLS = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "bind": (49, 200),
    "listen": (50, 201),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "setrlimit": (160, 164),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "fanotify_init": (300, 262),
}
CLONE, CLONE3, PRLIMIT, PRCTL = (56, 220), (435, 435), (302, 261), (157, 167)
MMAP, MAP_SHARED, MAP_ANONYMOUS, MAP_GROWSDOWN = (9, 222), 0x1, 0x20, 0x100
SIGNALS = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138)}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CLONE_THREAD = 0x10000
X32 = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
DENY = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS
NUMBER, ARCH, FIRST_ARGUMENT, THIRD_ARGUMENT, FOURTH_ARGUMENT = 0, 4, 16, 32, 40


def available() -> bool:
    """Whether this kind of machine has a filter here."""
    return libc.LINUX and libc.MACHINE in ARCHITECTURES


def install() -> None:
    """Install the filter in this thread, for good; privileges must have been given up."""
    code = _program(os.getpid())
    program = ctypes.create_string_buffer(code)
    head = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(program))
    libc.prctl(libc.PR_SET_SECCOMP, libc.SECCOMP_MODE_FILTER, head)


def _program(pid: int) -> bytes:
    column, arch = ARCHITECTURES[libc.MACHINE]
    code = [
        _step(LOAD, ARCH),
        _step(EQUAL, arch, 1, 0),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER),
    ]
    if column == 0:
        code += [_step(AT_LEAST, X32, 0, 1), _step(RETURN, KILL)]
    for numbers in CALLS.values():
        if numbers[column] is not None:
            code += [_step(EQUAL, numbers[column], 0, 1), _step(RETURN, DENY)]
    # threads may start, processes may not; the C library falls back from clone3 to clone
    code += [_step(EQUAL, CLONE3[column], 0, 1), _step(RETURN, ABSENT)]
    code += _unless(CLONE[column], FIRST_ARGUMENT, ANY_BIT, CLONE_THREAD)
    # limits may be read (the new value is a null pointer: both its halves are 0), not set
    code += [
        _step(EQUAL, PRLIMIT[column], 0, 6),
        _step(LOAD, THIRD_ARGUMENT),
        _step(EQUAL, 0, 0, 2),
        _step(LOAD, THIRD_ARGUMENT + 4),
        _step(EQUAL, 0, 1, 0),
        _step(RETURN, DENY),
        _step(RETURN, ALLOW),
    ]
    # memory is this process's own: what others could share, and a stack, are no data
    code += [
        _step(EQUAL, MMAP[column], 0, 6),
        _step(LOAD, FOURTH_ARGUMENT),
        _step(ANY_BIT, MAP_GROWSDOWN, 2, 0),
        _step(ANY_BIT, MAP_SHARED, 0, 2),
        _step(ANY_BIT, MAP_ANONYMOUS, 0, 1),
        _step(RETURN, DENY),
        _step(RETURN, ALLOW),
    ]
    # signals reach this process alone
    for numbers in SIGNALS.values():
        code += _unless(numbers[column], FIRST_ARGUMENT, EQUAL, pid)
    code += [
        _step(EQUAL, PRCTL[column], 0, 3),
        _step(LOAD, FIRST_ARGUMENT),
        _step(EQUAL, libc.PR_SET_PDEATHSIG, 0, 1),
        _step(RETURN, DENY),
        _step(RETURN, ALLOW),
    ]
    return b"".join(code)


def _unless(number: int, argument: int, test: int, value: int) -> list[bytes]:
    """Deny a call unless the low half of one argument passes a test."""
    return [
        _step(EQUAL, number, 0, 4),
        _step(LOAD, argument),
        _step(test, value, 1, 0),
        _step(RETURN, DENY),
        _step(RETURN, ALLOW),
    ]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)

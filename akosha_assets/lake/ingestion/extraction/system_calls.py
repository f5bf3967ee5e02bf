"""A seccomp filter: the system calls that a confined process cannot make, even if hostile code controls it.

Landlock guards files, TCP and, in new kernels, abstract sockets and signals. It does not know UDP, UNIX sockets by
path, new processes or io_uring, which this filter refuses. A filter is a classic BPF program (linux/filter.h) that the
kernel runs for each call. No library is used: the Python bindings of libseccomp need its shared library, which `pip`
does not install.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_NO_NEW_PRIVILEGES = 38
_SECCOMP, _SET_FILTER, _ALL_THREADS, _IS_AVAILABLE = (317, 277), 1, 1, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data: number, architecture, and the low half of an argument.
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CLONE_THREAD = 0x00010000
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND; O_TMPFILE needs one of the first two.
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
# System calls of the x32 ABI have numbers from here on.
_X32 = 0x40000000

# By name: the number on x86-64 and on aarch64 (None where it does not exist). Source: the kernel's unistd tables.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # Names, owners, modes and times of files, which Landlock does not protect, or only inside its folders.
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
# Calls that change files; `open` and `openat` are judged by their flags.
_WRITES: dict[str, tuple[int | None, int | None]] = {
    "creat": (85, None),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
}
# Their flags are in memory, which a filter cannot read: ENOSYS makes the C library use the older call.
_ABSENT: dict[str, tuple[int | None, int | None]] = {"clone3": (435, 435), "openat2": (437, 437)}
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CLONE, _TGKILL, _PRLIMIT, _OPEN, _OPENAT = (56, 220), (234, 131), (302, 261), (2, None), (257, 56)


def has_filter() -> bool:
    """Whether this machine supports the filter: Linux on x86-64 or aarch64, with a kernel that has seccomp."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    column = _MACHINES[platform.machine()][1]
    action = ctypes.c_uint32(_ERRNO)
    return bool(
        ctypes.CDLL(None).syscall(
            _SECCOMP[column], ctypes.c_uint(_IS_AVAILABLE), ctypes.c_uint(0), ctypes.byref(action)
        )
        == 0
    )


def deny_system_calls(*, read_only: bool) -> bool:
    """Denies this process and its running threads new processes, sockets, io_uring and access to other processes.

    It can no longer change names, owners, modes and times of files. With `read_only` it also cannot open a file for
    writing, or change, move or remove one. Refused calls fail with EPERM. Returns False, and changes nothing, where
    `has_filter` is False.

    Raises:
        OSError: the kernel refused the filter.
    """
    if not has_filter():
        return False
    architecture, column = _MACHINES[platform.machine()]
    program = _program(architecture, column, process=os.getpid(), read_only=read_only)
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(
        _SECCOMP[column], ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_ALL_THREADS), filter_
    )
    if refused:
        number = ctypes.get_errno()
        raise OSError(number, f"the kernel refused the system call filter: {os.strerror(number)}")
    return True


def _program(architecture: int, column: int, *, process: int, read_only: bool) -> bytes:
    """Returns the filter as BPF instructions of eight bytes."""
    refused, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, _KILL),
    ]
    denied = _DENIED | (_WRITES if read_only else {})
    for numbers, verdict in ((denied, refused), (_ABSENT, absent)):
        for pair in numbers.values():
            if (number := pair[column]) is not None:
                steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, verdict)]
    # Allow threads of this process, and no other kind of child.
    steps += _judge_argument(_CLONE[column], 0, _step(_ANY_BIT, _CLONE_THREAD, 1, 0), refused)
    # abort() and raise() signal the process itself.
    steps += _judge_argument(_TGKILL[column], 0, _step(_EQUAL, process, 1, 0), refused)
    # Allow the process its own limits, which it addresses as process 0.
    steps += _judge_argument(_PRLIMIT[column], 0, _step(_EQUAL, 0, 1, 0), refused)
    if read_only:
        steps += _judge_argument(_OPEN[column], 1, _step(_ANY_BIT, _WRITING, 0, 1), refused)
        steps += _judge_argument(_OPENAT[column], 2, _step(_ANY_BIT, _WRITING, 0, 1), refused)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _judge_argument(number: int | None, argument: int, test: bytes, refused: int) -> list[bytes]:
    """Returns instructions that refuse call `number` unless `test` of its argument skips the refusal."""
    if number is None:
        return []
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _ARGUMENT + 8 * argument),
        test,
        _step(_RETURN, refused),
        _step(_RETURN, _ALLOW),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)

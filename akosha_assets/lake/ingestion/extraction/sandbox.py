"""Confines a process before it reads uploaded bytes: memory, time, files and network; and a DuckDB without access to
anything else.

Four independent layers: resource limits (everywhere), Landlock (Linux 5.13 and later; files, and TCP from 6.7), a
filter of system calls (`system_calls.py`; Linux on x86-64 and aarch64), and DuckDB's own settings. The worker applies
them after it has imported everything it needs. Nothing here reads uploads.
"""

import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

import duckdb

from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.extraction.system_calls import deny_system_calls, has_filter
from akosha_assets.lake.quoting import literal

OPEN_FILES = 64
ALLOCATOR_THREAD = "jemalloc_bg_thd"
# Settings of every confined DuckDB. Without `async_threads` it starts eight threads for file I/O, whatever `threads`
# says.
CONFINED_DUCKDB = {
    "threads": "1",
    "async_threads": "0",
    "temp_directory": "",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_ABI_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

# All rights by the Landlock version that introduced the last one, as bits: execute … make_sym, refer, truncate,
# ioctl_dev.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_FOLDER
_WORK = (1 << 1) | _READ | (1 << 5) | (1 << 8) | (1 << 14)  # write, read, list, remove, create, truncate
_NETWORK_RIGHTS = 3
_SCOPES = 3
_NETWORK_FROM, _SCOPE_FROM = 4, 6


def landlock_version() -> int:
    """Returns the Landlock version of this kernel; 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        return 0
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_ABI_VERSION))))


def sandbox_level() -> str:
    """Returns the layers that this machine supports: `landlock`, `network` and `calls`, joined by `+`.

    `limits` where it supports resource limits alone.
    """
    version = landlock_version()
    layers = {"landlock": version > 0, "network": version >= _NETWORK_FROM, "calls": has_filter()}
    return "+".join(name for name, is_supported in layers.items() if is_supported) or "limits"


def limit_resources(*, memory_bytes: int, file_bytes: int, open_files: int = OPEN_FILES) -> None:
    """Limits additional address space, the size of written files and the number of open files; disables core dumps."""
    open_files = min(open_files, _allowed_open_files())
    # Libraries reserve gigabytes that they never touch: only the increase during an upload is meaningful.
    space = _address_space_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def _allowed_open_files() -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def limit_processor(seconds: int) -> None:
    """Limits the processor time of the process to `seconds` more than it has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, hard))


def confine(folders: list[Path], *, read_only: bool = False) -> str:
    """Restricts this process to files in `folders` and the control-group files that DuckDB reads; returns the level.

    With `read_only` it also cannot open a file for writing, or change, move or remove one. New processes, sockets and
    signals to other processes are refused.

    Raises:
        RuntimeError: the process has other threads, which would keep their rights.
        OSError: the kernel supports one of these layers and refuses it.
    """
    if others := _other_threads():
        raise RuntimeError(
            f"{others} running threads would keep their rights; confine a process before it connects to DuckDB"
        )
    if version := landlock_version():
        _restrict_files(folders, version, _READ if read_only else _WORK)
    deny_system_calls(read_only=read_only)
    return sandbox_level()


def _other_threads() -> int:
    """Returns the number of other threads, without that of the allocator, which runs only its own code."""
    tasks = Path("/proc/self/task")
    names = (
        [(task / "comm").read_text(encoding="utf-8", errors="replace").strip() for task in tasks.iterdir()]
        if tasks.is_dir()
        else []
    )
    return max(0, sum(name != ALLOCATOR_THREAD for name in names) - 1)


def _restrict_files(folders: list[Path], version: int, rights: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    files = _FILE_RIGHTS[max(introduced for introduced in _FILE_RIGHTS if introduced <= version)]
    network = _NETWORK_RIGHTS if version >= _NETWORK_FROM else 0
    attributes = struct.pack("=QQQ", files, network, _SCOPES if version >= _SCOPE_FROM else 0)
    size = 24 if version >= _SCOPE_FROM else 16 if version >= _NETWORK_FROM else 8
    ruleset = _checked(
        libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "create a ruleset"
    )
    try:
        for folder in folders:
            _allow(libc, ruleset, folder, rights & files)
        _allow(libc, ruleset, Path("/sys/fs/cgroup"), _READ)
        _allow(libc, ruleset, Path("/proc/self/cgroup"), _READ_FILE)
        _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "disable new privileges")
        _checked(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "restrict this process")
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    if not path.exists():
        return
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        _checked(
            libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_uint32(_PATH_BENEATH), rule, ctypes.c_uint32(0)),
            f"allow {path}",
        )
    finally:
        os.close(descriptor)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock could not {what}: {os.strerror(number)}")
    return result


def hardened_connection(folders: list[Path], *, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """Returns an in-memory DuckDB with locked settings that can attach files in `folders` and access nothing else."""
    connection = connect(CONFINED_DUCKDB, memory_mib=memory_bytes // 1024**2)
    # Every query is one scan of one table: any other optimizer costs more planning time than it saves.
    optimizers = [
        name
        for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
        if name != "unused_columns"
    ]
    allowed = ", ".join(literal(f"{folder}/") for folder in folders)
    connection.execute(f"SET disabled_optimizers = {literal(','.join(optimizers))}")
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection

"""The layers of the sandbox, tested from inside a confined process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from akosha_assets.lake.ingestion.extraction.sandbox import hardened_connection, landlock_version
from akosha_assets.lake.ingestion.extraction.scratch import PREFIX, Scratch, spool
from akosha_assets.lake.ingestion.extraction.system_calls import has_filter

TRIED = """
import json, os, socket, sys
from pathlib import Path
from akosha_assets.lake.ingestion.extraction.sandbox import confine, limit_resources
work, port = Path(sys.argv[1]), int(sys.argv[2])
limit_resources(memory_bytes=300 * 1024**2, file_bytes=1024)
level = confine([work])
def attempt(action):
    try:
        action()
        return "done"
    except (OSError, MemoryError) as error:
        return type(error).__name__
print(json.dumps({
    "level": level,
    "read elsewhere": attempt(lambda: open("/etc/passwd").read()),
    "list elsewhere": attempt(lambda: os.listdir("/")),
    "write elsewhere": attempt(lambda: open("/tmp/from-the-sandbox", "w")),
    "run a program": attempt(lambda: os.execv("/bin/true", ["true"])),
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", port), 5)),
    "write inside": attempt(lambda: (work / "a").write_text("x")),
    "read inside": attempt(lambda: (work / "a").read_text()),
    "write a large file": attempt(lambda: (work / "b").write_text("x" * 5000)),
    "allocate memory": attempt(lambda: bytearray(400 * 1024**2)),
}))
"""


@pytest.mark.skipif(landlock_version() < 4, reason="this kernel has no Landlock with network rules")
def test_a_confined_process_can_access_only_its_folder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-c", TRIED, str(tmp_path), str(port)], capture_output=True, text=True, check=True
        )

    assert json.loads(ran.stdout) == {
        "level": "landlock+network+calls",
        "read elsewhere": "PermissionError",
        "list elsewhere": "PermissionError",
        "write elsewhere": "PermissionError",
        "run a program": "PermissionError",
        "connect": "PermissionError",
        "write inside": "done",
        "read inside": "done",
        "write a large file": "OSError",
        "allocate memory": "MemoryError",
    }


def test_the_hardened_database_reads_nothing_outside_and_its_settings_are_locked(tmp_path: Path) -> None:
    with hardened_connection([tmp_path], memory_bytes=256 * 1024**2) as connection:
        for statement in (
            "SELECT * FROM read_text('/etc/hostname')",
            "SELECT * FROM glob('/*')",
            "ATTACH '/tmp/elsewhere.duckdb'",
            "COPY (SELECT 1) TO '/tmp/out.csv'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "RESET lock_configuration",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)


def test_only_folders_of_dead_owners_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("akosha_assets.lake.ingestion.extraction.scratch.MEMORY", tmp_path / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = (
        "import os; from akosha_assets.lake.ingestion.extraction.scratch import Scratch, spool; "
        "Scratch().worker_folders(); "
    )
    script += "spool().__enter__(); os._exit(0)"
    subprocess.run([sys.executable, "-c", script], env={"TMPDIR": str(tmp_path)}, check=True)
    living = Scratch()
    (folder,) = living.worker_folders()

    other = Scratch()
    with spool() as fetched:
        assert fetched.is_dir()

    assert folder.is_dir() and not fetched.exists()
    assert len([path for path in tmp_path.glob(f"{PREFIX}*") if path.is_dir()]) == 2
    other.remove()
    living.remove()
    assert not list(tmp_path.glob(f"{PREFIX}*"))


CALLED = """
import ctypes, json, os, resource, socket, sys, threading
from pathlib import Path
from akosha_assets.lake.ingestion.extraction import sandbox
work, is_read_only, has_landlock = Path(sys.argv[1]), sys.argv[2] == "read-only", sys.argv[3] == "landlock"
(work / "file").write_text("file")
if not has_landlock:
    sandbox.landlock_version = lambda: 0
sandbox.confine([work], read_only=is_read_only)
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        return "refused" if action() == -1 else "done"
    except OSError:
        return "refused"
def start_thread():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
print(json.dumps({name: attempt(action) for name, action in {
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "fork": os.fork,
    "clone3": lambda: libc.syscall(435, None, 0),
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "io_uring": lambda: libc.syscall(425, 1, None),
    "signal to the parent": lambda: os.kill(os.getppid(), 0),
    "limits of the parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
    "own limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "times": lambda: os.utime(work / "file"),
    "symlink": lambda: os.symlink("file", work / "link"),
    "reopen": lambda: os.open(f"/proc/self/fd/{os.open(work / 'file', os.O_RDONLY)}", os.O_RDWR),
    "thread": start_thread,
    "read": lambda: (work / "file").read_text(),
    "write": lambda: (work / "new").write_text("x"),
    "append": lambda: (work / "file").open("a"),
    "truncate": lambda: os.truncate(work / "file", 0),
    "rename": lambda: os.rename(work / "file", work / "moved"),
    "unlink": lambda: os.unlink(work / "file"),
    "mkdir": lambda: os.mkdir(work / "folder"),
    "chmod": lambda: os.chmod(work, 0o700),
}.items()}))
"""
REFUSED = frozenset(
    (
        *("udp", "unix socket", "netlink", "fork", "clone3", "exec", "io_uring", "signal to the parent"),
        *("limits of the parent", "times", "chmod", "symlink"),
    )
)


@pytest.mark.skipif(not has_filter(), reason="no system call filter for this machine")
@pytest.mark.parametrize("landlock", ["landlock", "no landlock"])
def test_a_read_only_process_cannot_change_files_with_or_without_landlock(tmp_path: Path, landlock: str) -> None:
    command = [sys.executable, "-c", CALLED, str(tmp_path), "read-only", landlock]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert {name for name, outcome in found.items() if outcome == "done"} == {"thread", "read", "own limits"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "file"


@pytest.mark.skipif(not has_filter(), reason="no system call filter for this machine")
def test_a_worker_can_write_in_its_folder_and_cannot_open_processes_or_sockets(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALLED, str(tmp_path), "writing", "no landlock"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert {name for name, outcome in found.items() if outcome == "refused"}.issuperset(REFUSED)
    assert found["write"] == found["thread"] == "done"


@pytest.mark.parametrize(
    "start",
    [
        "import duckdb; opened = duckdb.connect()",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    ],
)
def test_a_process_with_running_threads_is_not_confined(start: str) -> None:
    code = f"{start}\nimport os\nfrom akosha_assets.lake.ingestion.extraction.sandbox import confine\n"
    code += "try:\n    confine([])\nexcept RuntimeError as error:\n    print(error, flush=True)\nos._exit(0)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "would keep their rights" in ran.stdout


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "socket"])
def test_a_file_with_the_name_of_a_lock_that_is_not_regular_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("akosha_assets.lake.ingestion.extraction.scratch.MEMORY", tmp_path / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}x").mkdir()
    lock = tmp_path / f"{PREFIX}x.lock"
    if kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    elif kind == "link":
        lock.symlink_to(tmp_path / f"{PREFIX}x")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(lock))
    with spool() as folder:
        assert folder.is_dir()
    assert os.path.lexists(lock)
    assert (tmp_path / f"{PREFIX}x").is_dir()

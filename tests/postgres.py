"""A PostgreSQL cluster on loopback for one test, stopped afterwards."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a database of a running server. Skips the test if PostgreSQL is not installed."""
    initdb = shutil.which("initdb") or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None
    )
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    programs = Path(initdb).resolve().parent
    # The server refuses to run as root, so it runs as nobody.
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if nobody is not None:
        for path in (folder, *folder.parents):
            if path == Path("/tmp"):
                break
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user, group = (nobody.pw_uid, nobody.pw_gid) if nobody is not None else (None, None)
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "akosha", "--no-sync", "--locale=C.UTF-8"],
        check=True,
        capture_output=True,
        cwd=folder,
        user=user,
        group=group,
    )
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        user=user,
        group=group,
    )
    try:
        for _ in range(100):
            if (
                subprocess.run(
                    [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"], check=False
                ).returncode
                == 0
            ):
                break
            assert server.poll() is None, "PostgreSQL ended while it started"
            time.sleep(0.1)
        yield f"postgresql+psycopg2://akosha@127.0.0.1:{port}/postgres"
    finally:
        # SIGTERM would wait for every client to leave.
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)

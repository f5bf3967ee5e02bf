"""`akosha demo` with real services, a sensor, a run and a search over HTTP; it leaves nothing behind."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def started_for(home: Path) -> list[str]:
    """Command lines of living processes whose environment names `home`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                environment, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
            except OSError:
                continue
            if command and f"AKOSHA_HOME={home}".encode() in environment.split(b"\0"):
                found.append(command.replace(b"\0", b" ").decode())
    return found


@pytest.mark.timeout(400)
def test_the_demo_finds_its_uploads_and_stops_every_process(tmp_path: Path) -> None:
    api, dagster = free_ports(2)
    home = tmp_path / "home"
    ports = ["--api-port", str(api), "--dagster-port", str(dagster)]
    command = [
        str(Path(sys.executable).with_name("akosha")),
        "demo",
        "--exit",
        "--systems",
        "3",
        "--memories",
        "40",
        *ports,
    ]
    environment = {**os.environ, "AKOSHA_HOME": str(home), "COLUMNS": "120"}

    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=380, check=False
    )

    logs = "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted((home / "logs").glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert re.search(r"ingested .*3/3", done.stdout)
    assert re.search(r"[1-3] results? · hot answered", done.stdout)
    token = (home / "operator-token").read_text().strip()
    assert (
        f"http://127.0.0.1:{dagster}/asset-groups?token={token}" in done.stdout
        and f"http://127.0.0.1:{api}" in done.stdout
    )
    assert started_for(home) == []
    with sqlite3.connect(f"file:{home}/dagster/history/runs.db?mode=ro", uri=True) as runs:
        assert runs.execute("SELECT DISTINCT pipeline_name, status FROM runs").fetchall() == [("ingest", "SUCCESS")]
    assert list(tmp_path.iterdir()) == [home], "state lies outside the home"

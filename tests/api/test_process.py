"""The service as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


def test_it_serves_an_empty_lake_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"AKOSHA_HOME": str(tmp_path), "AKOSHA_API_PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "akosha_api"], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        answer = httpx.post(f"http://127.0.0.1:{port}/api/v1/search", json={"query": "anything"}).json()
        assert (answer["results"], answer["tiers"]["hot"]["state"]) == ([], "empty")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (tmp_path / "log").read_text()

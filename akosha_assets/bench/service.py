"""A service process for benchmarks, on a free port over one home."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from akosha_assets.bench import runs


class BenchService:
    """A context in which the process runs. `started` is its start, by `time.perf_counter`."""

    def __init__(self, home: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (home / "service.log").open("wb")
        environment = runs.environment(home) | {"AKOSHA_API_PORT": str(self.port)}
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "akosha_api"], env=environment, stdout=self.log, stderr=self.log
        )

    def __enter__(self) -> "BenchService":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()

    def seconds_until(self, condition: Callable[[dict[str, Any]], bool], timeout_seconds: float = 900) -> float:
        """Seconds from the start of the process until `condition` is true for the answer of /health."""
        while time.perf_counter() - self.started < timeout_seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}: {self._log_tail()}")
            try:
                if condition(self.health()):
                    return round(time.perf_counter() - self.started, 1)
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the service was not ready after {timeout_seconds:g} s: {self._log_tail()}")

    def health(self) -> dict[str, Any]:
        """The answer of /health."""
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=60).json()
        return answer

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory, and the part of it that is not mapped from files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        found = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith(("VmRSS", "RssAnon"))
        }
        return {"rss_bytes": found["VmRSS"], "anonymous_bytes": found["RssAnon"]}

    def cpu_seconds(self) -> float:
        """Processor time of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _log_tail(self) -> str:
        return Path(self.log.name).read_text()[-2000:]

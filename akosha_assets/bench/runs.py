"""Helpers of benchmarks: a temporary home, a measured process of `akosha`, and the description of the machine."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from akosha_assets.lake.settings import LakeSettings

# A small process in between: a child's peak memory starts with that of its parent,
# which may hold a million vectors here.
_MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_maxrss, used.ru_utime + used.ru_stime], file)
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Ingested:
    """The report of one process, its peak memory (of the run or its largest worker), and the CPU time of all."""

    report: dict[str, Any]
    peak_rss_bytes: int
    cpu_seconds: float


@contextmanager
def home(work: Path | None) -> Iterator[LakeSettings]:
    """Settings of an empty home in a temporary folder, below `work` if it is set."""
    with tempfile.TemporaryDirectory(prefix="akosha-bench-", dir=work) as folder:
        yield LakeSettings(home=Path(folder), inbox_url="", lake_url="", ledger_url="")


def ingest_process(settings: LakeSettings, **environment: str) -> Ingested:
    """Runs `akosha ingest --once` on the home of `settings`.

    Raises:
        RuntimeError: it failed; the message is its output.
    """
    return command_process(settings, "ingest", "--once", **environment)


def command_process(settings: LakeSettings, *arguments: str, **changed: str) -> Ingested:
    """Runs `akosha` with `arguments` and `--json` on the home of `settings`. Raises as `ingest_process`."""
    program = [sys.executable, "-c", "from akosha_assets.cli.main import app; app()", *arguments, "--json"]
    usage = settings.home / "usage.json"
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(usage), *program],
        env=environment(settings.home) | changed,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"akosha {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    peak, seconds = json.loads(usage.read_text())
    return Ingested(json.loads(done.stdout), peak * 1024, round(seconds, 2))


def environment(home: Path) -> dict[str, str]:
    """Environment of a process on `home`: of the caller's settings it has the embedding model only."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AKOSHA_") or name.startswith("AKOSHA_EMBEDDING")
    }
    return inherited | {"AKOSHA_HOME": str(home)}


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process now; by default this one."""
    fields = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def anonymous_bytes() -> int:
    """Resident anonymous memory of this process, without mapped files, which the kernel can drop at any time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def machine() -> dict[str, Any]:
    """The machine that the benchmark ran on."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }

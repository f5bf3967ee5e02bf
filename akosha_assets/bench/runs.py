"""What benchmarks share: a home of their own, one `akosha ingest --once` in a process that is measured, the machine."""

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


@dataclass(frozen=True)
class Ingested:
    """What one process of the product reported, its peak memory (the larger of the run and its largest worker), their CPU time."""

    report: dict[str, Any]
    peak_rss_bytes: int
    cpu_seconds: float


@contextmanager
def home(work: Path | None) -> Iterator[LakeSettings]:
    """Settings of an empty home in a folder that is removed afterwards, below `work` where given."""
    with tempfile.TemporaryDirectory(prefix="akosha-bench-", dir=work) as folder:
        yield LakeSettings(home=Path(folder), inbox_url="", lake_url="", ledger_url="")


def ingest_process(settings: LakeSettings, **environment: str) -> Ingested:
    """`akosha ingest --once` ran to its end on the home of `settings`.

    Raises:
        RuntimeError: it failed; the message is what it wrote.
    """
    return command_process(settings, "ingest", "--once", **environment)


def command_process(settings: LakeSettings, *arguments: str, **environment: str) -> Ingested:
    """`akosha` with `arguments` and `--json` ran to its end on the home of `settings`. Raises as `ingest_process`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AKOSHA_") or name.startswith("AKOSHA_EMBEDDING")}
    command = [sys.executable, "-c", "from akosha_assets.cli.main import app; app()", *arguments, "--json"]
    process = subprocess.Popen(
        command, env={**kept, "AKOSHA_HOME": str(settings.home), **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    said = process.stdout.read()
    complained = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode != 0:
        raise RuntimeError(f"akosha {' '.join(arguments)} ended with {process.returncode}: {complained[-2000:]}")
    return Ingested(json.loads(said), usage.ru_maxrss * 1024, round(usage.ru_utime + usage.ru_stime, 2))


def environment(home: Path) -> dict[str, str]:
    """Environment of a process of the product on `home`: nothing of the caller's settings but the embedding model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AKOSHA_") or name.startswith("AKOSHA_EMBEDDING")}
    return kept | {"AKOSHA_HOME": str(home)}


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process now; of this one where none is given."""
    fields = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine(), "python": platform.python_version()}

"""Read-only SQL over the tier tables, for callers who are not trusted: one confined process a query.

The process sees the data files of one version of each tier and nothing else; it ends by itself or is ended. What it
gives up is in `worker.py`.
"""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

import akosha_assets
from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, StoreUnavailable
from akosha_assets.lake.ingestion.extraction.sandbox import sandbox_level
from akosha_assets.lake.serving.table_log.files import LocalFiles

logger = logging.getLogger(__name__)

TIERS = ("hot", "warm", "cold")


@dataclass(frozen=True)
class SqlLimits:
    """What one query may cost."""

    seconds: int = 10
    memory_bytes: int = 1 << 30
    max_rows: int = 10_000
    max_bytes: int = 16 << 20


@dataclass(frozen=True)
class SqlAnswer:
    """The rows, at most as many as the limit, the SQL type of each column, and the version of each tier they show.

    What JSON cannot hold is text in `table`: of times and the like it has what DuckDB's CAST AS VARCHAR makes of them.
    """

    table: pa.Table
    types: list[str]
    is_truncated: bool
    versions: dict[str, int | None]


def run(lake: Lake, sql: str, limits: SqlLimits, *, written: Collection[str] = ()) -> SqlAnswer:
    """The answer of one SELECT over the views `hot`, `warm`, `cold` and `memories`.

    `written` are tiers whose tables are known to be there: a table that is gone is not one that nothing was written to.

    Raises:
        InvalidRequest: it is no single SELECT, DuckDB refuses it, or it costs more than the limits.
        StoreUnavailable: a table that the query reads could not be read.
    """
    files: dict[str, list[str]] = {}
    folders: list[str] = []
    versions: dict[str, int | None] = {}
    unreadable: dict[str, StoreUnavailable] = {}
    # Hot first: a row that moves is in the colder tier before it leaves the hotter one.
    for tier in TIERS:
        local = LocalFiles(lake, f"lifecycle/{tier}", lake.settings.home / "cache" / "files")
        files[tier], versions[tier] = [], None
        folders.append(str(local.folder))
        try:
            handle = lake.open(f"lifecycle/{tier}")
            if handle is None and (tier in written or lake.has_lost_log(f"lifecycle/{tier}")):
                raise StoreUnavailable(lake.uri(f"lifecycle/{tier}"), "the table was there before and has no log now")
            listed = tables.data_files(handle).select(["path", "size_bytes"]).to_pylist() if handle is not None else []
            files[tier] = [str(local.path(file["path"], file["size_bytes"])) for file in listed]
        except StoreUnavailable as error:
            # Of no matter to a query that does not read it.
            unreadable[tier] = error
            continue
        versions[tier] = None if handle is None else handle.version()
    here = [folder for folder in folders if Path(folder).is_dir()]
    said = _asked(vars(limits) | {"sql": sql, "files": files, "folders": here, "unreadable": list(unreadable)}, limits)
    if said[:1] == b"U":
        tier, reason = json.loads(said[1:])
        raise unreadable.get(tier) or StoreUnavailable(lake.uri(f"lifecycle/{tier}"), reason)
    if said[:1] == b"E":
        raise InvalidRequest("query", json.loads(said[1:]))
    if said[:1] != b"A":
        raise InvalidRequest("query", f"needed more than {limits.memory_bytes} bytes; select less")
    table = pa.ipc.open_stream(said[1:]).read_all()
    types = json.loads(table.schema.metadata[b"types"])
    return SqlAnswer(table.slice(0, limits.max_rows), types, len(table) > limits.max_rows, versions)


@cache
def _log_missing_walls() -> None:
    """Once a process: which walls of the sandbox this kernel lacks."""
    if missing := {"landlock", "network", "calls"}.difference(sandbox_level().split("+")):
        logger.warning("this kernel lacks walls of the sandbox that SQL runs in", extra={"missing": sorted(missing)})


def _asked(request: dict[str, Any], limits: SqlLimits) -> bytes:
    _log_missing_walls()
    root = str(Path(akosha_assets.__file__).parents[1])
    boot = (
        f"import sys; sys.path[:0] = {[root, *(entry for entry in sys.path if entry)]!r}; from "
        f"{__package__}.worker import main; main()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", boot],
            input=json.dumps(request).encode(),
            env={"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"},
            cwd="/",
            capture_output=True,
            # Starting the process and its libraries is not the caller's time.
            timeout=limits.seconds + 10,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _too_slow(limits) from error
    if done.returncode == -signal.SIGXCPU:
        raise _too_slow(limits)
    if done.returncode:
        logger.info(
            "a query ended its process",
            extra={"returncode": done.returncode, "said": done.stderr.decode(errors="replace")[-1000:]},
        )
    return done.stdout


def _too_slow(limits: SqlLimits) -> InvalidRequest:
    return InvalidRequest("query", f"took longer than {limits.seconds} s; select less")

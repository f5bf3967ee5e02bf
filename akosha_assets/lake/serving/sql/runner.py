"""Read-only SQL over the tier tables for untrusted callers: one confined process per query.

The process can read the data files of one version of each tier and nothing else. `worker.py` has its restrictions.
"""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyarrow as pa

import akosha_assets
from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, StoreUnavailable, TableUnreadable
from akosha_assets.lake.ingestion.extraction.sandbox import sandbox_level
from akosha_assets.lake.serving.sql.protocol import VIEWS, ReplyKind, WorkerRequest, out_of_memory
from akosha_assets.lake.serving.table_log.files import LocalFiles
from akosha_assets.lake.tiers import TIERS

logger = logging.getLogger(__name__)

# Seconds to start the process and import its libraries, which do not count as the query's.
START_SECONDS = 10
STDERR_CHARS = 1000


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """What one query may cost: seconds of processor time, bytes of memory, rows and bytes of its result."""

    seconds: int = 10
    memory_bytes: int = 1 << 30
    max_rows: int = 10_000
    max_bytes: int = 16 << 20


@dataclass(frozen=True, kw_only=True)
class SqlAnswer:
    """The result of a query. Values that JSON cannot represent are text in `table`, as CAST AS VARCHAR makes it."""

    table: pa.Table
    # The SQL type of each column of `table`.
    types: list[str]
    # The query has more rows than `max_rows`.
    is_truncated: bool
    # The table version of each tier that the query read; None if the tier has no table.
    versions: dict[str, int | None]


@dataclass(kw_only=True)
class _ViewFiles:
    """The data files of one version of each view's table."""

    files: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    versions: dict[str, int | None] = field(default_factory=dict)
    # Raised only if the query reads the view.
    unreadable: dict[str, StoreUnavailable] = field(default_factory=dict)


def run(lake: Lake, sql: str, limits: SqlLimits, *, written: Collection[str] = ()) -> SqlAnswer:
    """The answer to one SELECT over the views `hot`, `warm`, `cold` and `memories`.

    `written` are tiers that are known to have a table: a table that is missing is then an error and not empty.

    Raises:
        InvalidRequest: it is not a single SELECT, DuckDB refuses it, or it exceeds a limit.
        StoreUnavailable: a table that the query reads cannot be read.
    """
    listed = _list_files(lake, written)
    request = WorkerRequest(
        sql=sql,
        files=listed.files,
        folders=[folder for folder in listed.folders if Path(folder).is_dir()],
        unreadable=list(listed.unreadable),
        seconds=limits.seconds,
        memory_bytes=limits.memory_bytes,
        max_rows=limits.max_rows,
        max_bytes=limits.max_bytes,
    )
    reply = _run_worker(request, limits)
    kind, content = reply[:1], reply[1:]
    if kind == ReplyKind.UNREADABLE.value:
        view, reason = json.loads(content)
        raise listed.unreadable.get(view) or StoreUnavailable(lake.uri(VIEWS[view]), reason)
    if kind == ReplyKind.REFUSED.value:
        raise InvalidRequest("query", json.loads(content))
    if kind != ReplyKind.ROWS.value:
        # The process ended without a reply: only memory beyond its limit does that.
        raise InvalidRequest("query", out_of_memory(limits.memory_bytes))
    table = pa.ipc.open_stream(content).read_all()
    return SqlAnswer(
        table=table.slice(0, limits.max_rows),
        types=json.loads(table.schema.metadata[b"types"]),
        is_truncated=len(table) > limits.max_rows,
        versions=listed.versions,
    )


def _list_files(lake: Lake, written: Collection[str]) -> _ViewFiles:
    listed = _ViewFiles()
    # Hot first: a row that moves is in the colder tier before it leaves the hotter one.
    for view, address in VIEWS.items():
        local = LocalFiles(lake, address, lake.settings.home / "cache" / "files")
        listed.folders.append(str(local.folder))
        listed.files[view] = []
        if view in TIERS:
            listed.versions[view] = None
        try:
            table = lake.open(address)
            if table is None:
                if view in written or lake.has_lost_log(address):
                    raise TableUnreadable(lake.uri(address), "was written to and has no log now")
                continue
            files = tables.data_files(table).select(["path", "size_bytes"]).to_pylist()
            listed.files[view] = [str(local.path(file["path"], file["size_bytes"])) for file in files]
            if view in TIERS:
                listed.versions[view] = table.version()
        except StoreUnavailable as error:
            listed.unreadable[view] = error
    return listed


@cache
def _log_missing_walls() -> None:
    """Logs, once per process, which walls of the sandbox this kernel does not have."""
    if missing := {"landlock", "network", "calls"}.difference(sandbox_level().split("+")):
        logger.warning("this kernel lacks walls of the sandbox that SQL runs in", extra={"missing": sorted(missing)})


def _run_worker(request: WorkerRequest, limits: SqlLimits) -> bytes:
    """The reply of a new process; empty if the process was killed.

    Raises:
        InvalidRequest: the query took too long.
    """
    _log_missing_walls()
    root = str(Path(akosha_assets.__file__).parents[1])
    boot = (
        f"import sys; sys.path[:0] = {[root, *(entry for entry in sys.path if entry)]!r}; from "
        f"{__package__}.worker import main; main()"
    )
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", boot],
            input=json.dumps(request).encode(),
            env={"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"},
            cwd="/",
            capture_output=True,
            timeout=limits.seconds + START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _too_slow(limits) from error
    if ended.returncode == -signal.SIGXCPU:
        raise _too_slow(limits)
    if ended.returncode:
        stderr = ended.stderr.decode(errors="replace")[-STDERR_CHARS:]
        logger.info("a query ended its process", extra={"returncode": ended.returncode, "stderr": stderr})
    return ended.stdout


def _too_slow(limits: SqlLimits) -> InvalidRequest:
    return InvalidRequest("query", f"took longer than {limits.seconds} s; select less")

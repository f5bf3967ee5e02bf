"""The child process that runs one query: it confines itself, creates the views, then runs the query.

Reads one request from stdin and writes one reply to stdout, both as in `protocol.py`. Started only by `runner.py`.
"""

import json
import os
import sys
import time
from pathlib import Path
from threading import Lock, Thread

import duckdb
import pyarrow as pa

from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.extraction.sandbox import (
    CONFINED_DUCKDB,
    OPEN_FILES,
    confine,
    limit_processor,
    limit_resources,
)
from akosha_assets.lake.quoting import identifier, literals
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.serving.sql.protocol import VIEWS, ReplyKind, WorkerRequest, encode_reply, out_of_memory
from akosha_assets.lake.serving.sql.statement import refused_in
from akosha_assets.lake.serving.sql.values import projection
from akosha_assets.lake.tiers import TIERS

# Columns that are useless in SQL: encoded vectors, and source columns as JSON.
HIDDEN_COLUMNS = (
    "vector",
    "vector_scale",
    "sketch",
    "sketch_scale",
    "passages",
    "passage_scales",
    "passage_ranges",
    "fingerprint",
    "_rescued",
)
# The columns that two rows of one memory have in common.
IDENTITY = ("system_id", "kind", "id", "event_day")
# Of the absences of a memory the one of the newest snapshot counts.
MEMORIES = """
CREATE VIEW memories AS
WITH absent AS (
    SELECT system_id, kind, id, max(snapshot_at) AS absent_since FROM internal.absences
    GROUP BY ALL HAVING arg_max(is_absent, snapshot_at)
)
SELECT m.*, a.absent_since FROM ({tiers}) m LEFT JOIN absent a USING (system_id, kind, id)
"""
BATCH_ROWS = 2048
# Address space that allocators and thread stacks reserve and never touch.
RESERVED_BYTES = 3 << 30
# A query may name a view several times, and `memories` does.
OPENED_PER_FILE = 8
# How often the memory of the process is checked: DuckDB's own limit does not count strings that the query creates.
CHECK_SECONDS = 0.01
# Each level of DuckDB's parse tree is four levels of JSON, and DuckDB allows 1,000.
TREE_LEVELS = 10_000
UNCONFINED = (
    "this machine has neither Landlock nor seccomp, which keep a query from writing; run the service on "
    "Linux 5.13 or later"
)


def main() -> None:
    """Answers the request on stdin and ends the process."""
    request: WorkerRequest = json.load(sys.stdin)
    # DuckDB keeps every file of a view open.
    files = sum(len(paths) for paths in request["files"].values())
    limit_resources(
        memory_bytes=request["memory_bytes"] + RESERVED_BYTES,
        file_bytes=0,
        open_files=OPEN_FILES + OPENED_PER_FILE * files,
    )
    limit_processor(request["seconds"])
    replying = Lock()
    # Opened now, because the sandbox forbids it later.
    statm = os.open("/proc/self/statm", os.O_RDONLY) if Path("/proc/self/statm").exists() else None
    # Before the first connection and the first thread: a running thread would keep its rights.
    level = confine([Path(folder) for folder in request["folders"]], read_only=True)
    if statm is not None:
        _watch_memory(statm, request, replying)
    sys.setrecursionlimit(TREE_LEVELS)
    unreadable = dict.fromkeys(request["unreadable"], "")
    try:
        connection = _connection(request, unreadable)
        reply = _answer(connection, request) if level != "limits" else encode_reply(ReplyKind.REFUSED, UNCONFINED)
    except duckdb.Error as error:
        if (view := _view_at_fault(error, request, unreadable)) is not None:
            reply = encode_reply(ReplyKind.UNREADABLE, [view, unreadable.get(view) or _message(error, request)])
        else:
            reply = encode_reply(ReplyKind.REFUSED, _message(error, request))
    # Never released: the memory watch must not reply after this.
    replying.acquire()
    sys.stdout.buffer.write(reply)
    sys.stdout.buffer.flush()
    # Confined, the libraries cannot stop their threads, and need not.
    os._exit(0)


def _connection(request: WorkerRequest, unreadable: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """DuckDB with a view for each tier and `memories`, without access to anything else.

    Views whose files cannot be read are added to `unreadable` with the reason.
    """
    # Otherwise DuckDB looks up unknown table names among the variables of this program.
    config = {**CONFINED_DUCKDB, "python_enable_replacements": "false"}
    connection = connect(config, memory_mib=request["memory_bytes"] // 2 // 1024**2)
    # Callers may name views of the default schema only.
    connection.execute("CREATE SCHEMA internal")
    for view in VIEWS:
        _create_view(connection, view, request["files"].get(view, []), request, unreadable)
    hotter: list[str] = []
    selects = []
    for tier in TIERS:
        conditions = " AND ".join(["true", *(_is_not_in(tier, other) for other in hotter)])
        selects.append(f"SELECT '{tier}' AS tier, * FROM {tier} WHERE {conditions}")
        hotter.append(tier)
    connection.execute(MEMORIES.format(tiers=" UNION ALL BY NAME ".join(selects)))
    for view in request["files"]:
        # A view over a dropped table fails only in a query that reads it.
        if view in unreadable:
            connection.execute(f"DROP TABLE {_placeholder(view)}")
    folders = literals(f"{folder}/" for folder in request["folders"])
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _is_not_in(tier: str, hotter: str) -> str:
    """A condition: the row's memory has no row in the hotter tier."""
    same = " AND ".join(f"{tier}.{name} = hotter.{name}" for name in IDENTITY)
    return f"NOT EXISTS (SELECT 1 FROM {hotter} AS hotter WHERE {same})"


def _create_view(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    paths: list[str],
    request: WorkerRequest,
    unreadable: dict[str, str],
) -> None:
    spec = TABLES[VIEWS[view]]
    schema = spec.schema
    columns = ", ".join(identifier(name) for name in schema.names if name not in HIDDEN_COLUMNS)
    if paths and view not in unreadable:
        options = "union_by_name = true"
        if spec.partition_by:
            options += ", hive_partitioning = true, hive_types = {'event_day': DATE}"
        files = literals(paths)
        try:
            connection.execute(
                f"CREATE VIEW {_qualified(view)} AS SELECT {columns} FROM read_parquet([{files}], {options})"
            )
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            unreadable[view] = _message(error, request)
        else:
            return
    source = f"({_no_rows(connection, schema)})"
    if view in unreadable:
        connection.execute(f"CREATE TABLE {_placeholder(view)} AS FROM {source}")
        source = _placeholder(view)
    connection.execute(f"CREATE VIEW {_qualified(view)} AS SELECT {columns} FROM {source}")


def _qualified(view: str) -> str:
    return view if view in TIERS else f"internal.{view}"


def _placeholder(view: str) -> str:
    """The table behind a view that cannot be read, until it is dropped."""
    return f"akosha_unreadable_{view}"


def _no_rows(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> str:
    """A query without rows whose columns are those of `schema`."""
    connection.register("described", schema.empty_table())
    columns = connection.execute("DESCRIBE described").fetchall()
    connection.unregister("described")
    nulls = ", ".join(f"NULL::{type} AS {identifier(name)}" for name, type, *_ in columns)
    return f"SELECT {nulls} WHERE false"


def _view_at_fault(error: duckdb.Error, request: WorkerRequest, unreadable: dict[str, str]) -> str | None:
    """The view whose files cannot be read; None if the error is the query's fault."""
    message = str(error)
    for view, paths in request["files"].items():
        if view in unreadable and f"Table with name {_placeholder(view)} does not exist" in message:
            return view
        # A path that the query itself names is the caller's fault.
        if any(path in message and path not in request["sql"] for path in paths):
            return view
    return None


def _answer(connection: duckdb.DuckDBPyConnection, request: WorkerRequest) -> bytes | pa.Buffer:
    if (refusal := refused_in(connection, request["sql"], {*TIERS, "memories"})) is not None:
        return encode_reply(ReplyKind.REFUSED, refusal)
    relation = connection.sql(request["sql"])
    # One more row than allowed shows that there are more.
    rows = relation.project(projection(relation)).limit(request["max_rows"] + 1)
    reader = rows.to_arrow_reader(BATCH_ROWS)
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > request["max_bytes"]:
            return encode_reply(ReplyKind.REFUSED, f"the result exceeds {request['max_bytes']} bytes; select less")
    types = json.dumps([str(type) for type in relation.types])
    table = pa.Table.from_batches(batches, reader.schema.with_metadata({"types": types}))
    sink = pa.BufferOutputStream()
    sink.write(ReplyKind.ROWS.value)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _watch_memory(statm: int, request: WorkerRequest, replying: Lock) -> None:
    """Starts a thread that refuses the query once the process exceeds its memory. `statm` is an open
    `/proc/self/statm`.
    """

    def watch() -> None:
        while int(os.pread(statm, 100, 0).split()[1]) * os.sysconf("SC_PAGESIZE") <= request["memory_bytes"]:
            time.sleep(CHECK_SECONDS)
        with replying:
            sys.stdout.buffer.write(encode_reply(ReplyKind.REFUSED, out_of_memory(request["memory_bytes"])))
            sys.stdout.buffer.flush()
            os._exit(0)

    Thread(target=watch, daemon=True).start()


def _message(error: duckdb.Error, request: WorkerRequest) -> str:
    """DuckDB's message on one line, without the excerpt of the query."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return out_of_memory(request["memory_bytes"])
    return " ".join(line.strip() for line in str(error).split("\nLINE ")[0].splitlines() if line.strip())


if __name__ == "__main__":
    main()

"""The child that runs one caller's SQL: views first, then it gives up files, network, memory and time, then the query.

Reads one JSON request from stdin, writes an Arrow stream or a JSON error to stdout. Started by `runner.py` alone.
"""

import json
import os
import sys
import time
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import duckdb
import pyarrow as pa

from akosha_assets.lake.ingestion.extraction.sandbox import (
    CONFINED_DUCKDB,
    OPEN_FILES,
    confine,
    limit_processor,
    limit_resources,
)
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.serving.sql.statement import refused_in
from akosha_assets.lake.serving.sql.values import projection

# Bytes that mean nothing in SQL, and what the source's rest columns hold.
HIDDEN = ("vector", "vector_scale", "sketch", "sketch_scale", "fingerprint", "_rescued")
IDENTITY = "system_id = h.system_id AND {0}.kind = h.kind AND {0}.id = h.id AND {0}.event_day = h.event_day"
BATCH_ROWS = 2048
# Address space that allocators and thread stacks reserve and never touch.
RESERVED_BYTES = 3 << 30
# A query may name a view several times, and `memories` does.
OPENED_PER_FILE = 8
# How often is looked whether the query took more memory than DuckDB counts: strings of its own make are not among that.
LOOK_SECONDS = 0.01
# A parse tree of DuckDB is four levels of JSON deep for each of its own, of which it allows 1,000.
TREE_LEVELS = 10_000
UNCONFINED = (
    "this machine has neither Landlock nor seccomp, which keep a query from writing; run the service on "
    "Linux 5.13 or later"
)


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    # DuckDB keeps every file of a view open.
    files = sum(len(paths) for paths in request["files"].values())
    limit_resources(
        memory_bytes=request["memory_bytes"] + RESERVED_BYTES,
        file_bytes=0,
        open_files=OPEN_FILES + OPENED_PER_FILE * files,
    )
    limit_processor(request["seconds"])
    telling = Lock()
    held = os.open("/proc/self/statm", os.O_RDONLY) if Path("/proc/self/statm").exists() else None
    # Before the first connection and the first thread: what runs already would keep its rights.
    level = confine([Path(folder) for folder in request["folders"]], read_only=True)
    if held is not None:
        _watch_memory(held, request, telling)
    sys.setrecursionlimit(TREE_LEVELS)
    unreadable = dict.fromkeys(request["unreadable"], "")
    try:
        connection = _connection(request, unreadable)
        answer = _answer(connection, request) if level != "limits" else _refusal(UNCONFINED)
    except duckdb.Error as error:
        if (tier := _tier_at_fault(error, request, unreadable)) is not None:
            answer = _encode_answer(b"U", [tier, unreadable.get(tier) or _said(error, request)])
        else:
            answer = _refusal(_said(error, request))
    # Never given back: who watches tells nothing after this.
    telling.acquire()
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    # Confined, the libraries cannot end their threads in order; nothing here needs them to.
    os._exit(0)


def _connection(request: dict[str, Any], unreadable: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """DuckDB with its views, confined. A tier whose files turn out not to be readable is added to `unreadable`, with
    the reason.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": f"{request['memory_bytes'] // 2 // 1024**2}MiB",
            **CONFINED_DUCKDB,
            # A name that is no view must not be looked up among the variables of this program.
            "python_enable_replacements": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    for tier, paths in request["files"].items():
        _view(connection, tier, [] if tier in unreadable else paths, request, unreadable)
    connection.execute(
        "CREATE VIEW memories AS SELECT 'hot' AS tier, * FROM hot "
        f"UNION ALL BY NAME SELECT 'warm' AS tier, * FROM warm WHERE {_hidden('warm', 'hot')} "
        f"UNION ALL BY NAME SELECT 'cold' AS tier, * FROM cold WHERE {_hidden('cold', 'hot')} AND "
        f"{_hidden('cold', 'warm')}"
    )
    for tier in request["files"]:
        # A view of what is not there fails where a query reads it, and nowhere else.
        if tier in unreadable:
            connection.execute(f"DROP TABLE {_missing(tier)}")
    folders = ", ".join("'" + folder.replace("'", "''") + "/'" for folder in request["folders"])
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _tier_at_fault(error: duckdb.Error, request: dict[str, Any], unreadable: dict[str, str]) -> str | None:
    """The tier of which files cannot be read, which is no fault of the query; None where it is not that."""
    said = str(error)
    for tier, paths in request["files"].items():
        if tier in unreadable and f"Table with name {_missing(tier)} does not exist" in said:
            return str(tier)
        # Read through the view: a path that the caller names is the caller's.
        if any(path in said and path not in request["sql"] for path in paths):
            return str(tier)
    return None


def _view(
    connection: duckdb.DuckDBPyConnection,
    tier: str,
    paths: list[str],
    request: dict[str, Any],
    unreadable: dict[str, str],
) -> None:
    schema = TABLES[f"lifecycle/{tier}"].schema
    columns = ", ".join(f'"{name}"' for name in schema.names if name not in HIDDEN)
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    source = (
        f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{'event_day': DATE}}, union_by_name = true)"
    )
    try:
        if paths:
            connection.execute(f"CREATE VIEW {tier} AS SELECT {columns} FROM {source}")
            return
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        unreadable[tier] = _said(error, request)
    source = f"({_nothing(connection, schema)})"
    if tier in unreadable:
        connection.execute(f"CREATE TABLE {_missing(tier)} AS FROM {source}")
        source = _missing(tier)
    connection.execute(f"CREATE VIEW {tier} AS SELECT {columns} FROM {source}")


def _missing(tier: str) -> str:
    return f"akosha_unreadable_{tier}"


def _nothing(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> str:
    """A query of no rows with the columns of `schema`."""
    connection.register("described", schema.empty_table())
    columns = connection.execute("DESCRIBE described").fetchall()
    connection.unregister("described")
    return "SELECT " + ", ".join(f'NULL::{column[1]} AS "{column[0]}"' for column in columns) + " WHERE false"


def _hidden(tier: str, hotter: str) -> str:
    return f"NOT EXISTS (SELECT 1 FROM {hotter} AS h WHERE {tier}.{IDENTITY.format(tier)})"


def _answer(connection: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> bytes | pa.Buffer:
    if (found := refused_in(connection, request["sql"], {*request["files"], "memories"})) is not None:
        return _refusal(found)
    limit = request["max_rows"]
    relation = connection.sql(request["sql"])
    reader = relation.project(projection(relation)).limit(limit + 1).to_arrow_reader(BATCH_ROWS)
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > request["max_bytes"]:
            return _refusal(f"the result exceeds {request['max_bytes']} bytes; select less")
    table = pa.Table.from_batches(
        batches, reader.schema.with_metadata({"types": json.dumps([str(kind) for kind in relation.types])})
    )
    sink = pa.BufferOutputStream()
    sink.write(b"A")
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _watch_memory(held: int, request: dict[str, Any], telling: Lock) -> None:
    """The process ends with a refusal once it holds more than the query may; `held` is an open `/proc/self/statm`."""

    def watch() -> None:
        while int(os.pread(held, 100, 0).split()[1]) * os.sysconf("SC_PAGESIZE") <= request["memory_bytes"]:
            time.sleep(LOOK_SECONDS)
        with telling:
            sys.stdout.buffer.write(_refusal(_out_of_memory(request)))
            sys.stdout.buffer.flush()
            os._exit(0)

    Thread(target=watch, daemon=True).start()


def _out_of_memory(request: dict[str, Any]) -> str:
    return f"needed more than {request['memory_bytes']} bytes; select less"


def _refusal(reason: str) -> bytes:
    return _encode_answer(b"E", reason)


def _encode_answer(kind: bytes, what: object) -> bytes:
    """E: the query is at fault, and why. U: a tier cannot be read, and why."""
    return kind + json.dumps(what).encode()


def _said(error: duckdb.Error, request: dict[str, Any]) -> str:
    """What DuckDB found and what it proposes, without the excerpt of the query."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return _out_of_memory(request)
    return " ".join(line.strip() for line in str(error).split("\nLINE ")[0].splitlines() if line.strip())


if __name__ == "__main__":
    main()

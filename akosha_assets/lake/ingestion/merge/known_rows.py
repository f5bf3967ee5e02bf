"""The known rows of a system: identity, hash and event day of each. A cache of the tables, in the ledger.

Encodes, decodes and rebuilds them; `reconcile.py` compares them with a snapshot.
"""

from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import UTC
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.extraction.pool import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.ledger.plausible import EPOCH
from akosha_assets.lake.quoting import literals
from akosha_assets.lake.schemas import ABSENCES, ALIASES, TABLES

_STORED = ("system_id", "kind", "id", "content_hash", "event_day", "snapshot_at")
KNOWN_BY_SYSTEM = pa.schema([pa.field("system_id", pa.string()), *KNOWN_SCHEMA])
_STORED_ROWS = pa.schema([KNOWN_BY_SYSTEM.field(name) for name in _STORED])
_ADDRESSES = [address for address, spec in TABLES.items() if {"content_hash", "object_key"} <= set(spec.schema.names)]
# `named`: each id of a memory; an alias has the hash of the stored row if that is newer, and its own otherwise.
NEWEST_FORMS = """
WITH newest AS (
    SELECT * FROM stored_rows
    QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC) = 1
), renumbered AS (
    SELECT * FROM aliases QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC) = 1
), named AS (
    SELECT system_id, kind, id, content_hash, event_day, snapshot_at, id AS memory_id FROM newest
    UNION ALL
    SELECT a.system_id, a.kind, a.id,
           CASE WHEN n.snapshot_at > a.snapshot_at THEN n.content_hash ELSE a.content_hash END,
           n.event_day, greatest(n.snapshot_at, a.snapshot_at), a.memory_id
    FROM renumbered a JOIN newest n ON n.system_id = a.system_id AND n.kind = a.kind AND n.id = a.memory_id
), presence AS (
    SELECT system_id, kind, id AS memory_id, arg_max(is_absent, snapshot_at) AS is_absent, max(snapshot_at) AS at
    FROM absences GROUP BY ALL
), latest AS (
    SELECT system_id, kind, memory_id, max(snapshot_at) AS snapshot_at FROM named GROUP BY ALL
)
SELECT n.system_id, n.kind, n.id, n.content_hash, n.event_day, n.snapshot_at,
       coalesce(p.is_absent AND p.at >= l.snapshot_at, false) AS is_absent,
       e.text_hash, e.stated_seconds,
       nullif(n.memory_id, n.id) AS memory_id
FROM named n
JOIN latest l USING (system_id, kind, memory_id)
LEFT JOIN presence p USING (system_id, kind, memory_id)
LEFT JOIN earlier e USING (system_id, kind, id, content_hash)
ORDER BY n.system_id
"""
COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


def encode(rows: pa.Table) -> bytes:
    """Returns `rows` (KNOWN_SCHEMA) as the ledger stores them: a compressed Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, KNOWN_SCHEMA, options=COMPRESSED) as writer:
        writer.write_table(rows.select(KNOWN_SCHEMA.names))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode(data: bytes) -> pa.Table:
    """Returns the rows (KNOWN_SCHEMA) that `encode` was called with."""
    rows = pa.ipc.open_stream(data).read_all()
    for place, field in enumerate(KNOWN_SCHEMA):
        # Encoded by a release that did not have the column.
        if field.name not in rows.schema.names:
            rows = rows.add_column(place, field, pa.nulls(rows.num_rows, field.type))
    return rows.select(KNOWN_SCHEMA.names)


def without_future(rows: pa.Table, latest: datetime) -> pa.Table:
    """Returns `rows` with every `snapshot_at` after `latest`, which a clock that was ahead set, replaced by 1970."""
    limit = pa.scalar(latest, UTC)
    newest = pa.compute.max(rows["snapshot_at"]).as_py() if rows.num_rows else None
    if newest is None or newest <= latest:
        return rows
    at = pa.compute.if_else(
        pa.compute.greater(rows["snapshot_at"].cast(UTC), limit), pa.scalar(EPOCH, UTC), rows["snapshot_at"].cast(UTC)
    )
    return rows.set_column(rows.schema.get_field_index("snapshot_at"), "snapshot_at", at)


def rebuild(lake: Lake, earlier: Mapping[str, pa.Table], *, latest: datetime) -> dict[str, pa.Table]:
    """Reads the known rows (KNOWN_SCHEMA) of systems from the tables, the newest version of each row.

    `earlier`: the rows that were known of each system before. Only text hashes and stated times are taken from there,
    because the tables do not have the entire text of every row. A version whose snapshot time is after `latest` counts
    as the oldest. A system without rows gets an empty table.
    """
    system_ids = list(earlier)
    condition = f"system_id IN ({literals(system_ids)})"
    stored_rows = pa.concat_tables([_stored_rows(lake, address, condition) for address in _ADDRESSES])
    stored_rows = without_future(stored_rows, latest)
    columns = ["system_id", "kind", "id", "is_absent", "snapshot_at"]
    absences = without_future(lake.select(ABSENCES.address, columns, condition), latest)
    columns = ["system_id", "kind", "id", "memory_id", "content_hash", "snapshot_at"]
    aliases = without_future(lake.select(ALIASES.address, columns, condition), latest)
    with connect() as connection:
        connection.register("stored_rows", stored_rows)
        connection.register("absences", absences)
        connection.register("aliases", aliases)
        connection.register("earlier", join(earlier))
        return split(connection.sql(NEWEST_FORMS).to_arrow_table(), system_ids)


def join(tables: Mapping[str, pa.Table]) -> pa.Table:
    """The known rows of several systems, by system, as one table (KNOWN_BY_SYSTEM), ordered by system."""
    parts = [KNOWN_BY_SYSTEM.empty_table()]
    for system_id, table in sorted(tables.items()):
        parts.append(pa.table([pa.repeat(system_id, table.num_rows), *table.columns], schema=KNOWN_BY_SYSTEM))
    return pa.concat_tables(parts)


def _stored_rows(lake: Lake, address: str, condition: str) -> pa.Table:
    """Returns the rows of one table as `_STORED_ROWS`; event days are null if the table has none."""
    columns = [name for name in _STORED_ROWS.names if name in TABLES[address].schema.names]
    rows = lake.select(address, columns, condition)
    if "event_day" not in columns:
        rows = rows.append_column("event_day", pa.nulls(rows.num_rows, pa.date32()))
    return rows.select(_STORED_ROWS.names).cast(_STORED_ROWS)


def confirm(rows: pa.Table, digests: dict[str, dict[str, str]]) -> pa.Table:
    """Returns `rows` after a snapshot with unchanged files: `snapshot_at` is at least that of the file's digest."""
    # Compared as microseconds: pyarrow has no maximum of two timestamps.
    at, kinds, present = rows["snapshot_at"].cast(pa.int64()), rows["kind"], pa.compute.invert(rows["is_absent"])
    for name, digest in digests.items():
        is_of_file = pa.compute.starts_with(kinds, "kg_")
        if not name.startswith("knowledge_graph"):
            is_of_file = pa.compute.invert(is_of_file)
        confirmed_at = pa.scalar(datetime.fromisoformat(digest["at"]), UTC).cast(pa.int64())
        at = pa.compute.if_else(pa.compute.and_(is_of_file, present), pa.compute.max_element_wise(at, confirmed_at), at)
    return rows.set_column(rows.schema.get_field_index("snapshot_at"), "snapshot_at", at.cast(UTC))


def split(rows: pa.Table, system_ids: list[str]) -> dict[str, pa.Table]:
    """Splits `rows` (KNOWN_BY_SYSTEM, ordered by system) by system; a system without rows gets an empty table."""
    result = dict.fromkeys(system_ids, KNOWN_SCHEMA.empty_table())
    start = 0
    # Rows of a system are consecutive, so the counts give their offsets.
    for entry in rows["system_id"].value_counts().to_pylist():
        own = rows.slice(start, entry["counts"])
        result[entry["values"]] = own.select(KNOWN_SCHEMA.names).cast(KNOWN_SCHEMA)
        start += entry["counts"]
    return result

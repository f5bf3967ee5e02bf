"""What is known of a system: identity, hash and day of every row it has. A cache of the tables, kept in the ledger.

Encoding, decoding and rebuilding only; comparing with a snapshot is in `reconcile.py`.
"""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import UTC
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.extraction.pool import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.ledger.plausible import EPOCH
from akosha_assets.lake.quoting import literals
from akosha_assets.lake.schemas import ABSENCES, TABLES

KNOWN_BY_SYSTEM = pa.schema([pa.field("system_id", pa.string()), *KNOWN_SCHEMA])
COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


def encode(rows: pa.Table) -> bytes:
    """`rows` (KNOWN_SCHEMA) as the ledger keeps them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, KNOWN_SCHEMA, options=COMPRESSED) as writer:
        writer.write_table(rows.select(KNOWN_SCHEMA.names))
    return sink.getvalue().to_pybytes()


def decode(data: bytes) -> pa.Table:
    """What `encode` was given."""
    return pa.ipc.open_stream(data).read_all()


def without_future(rows: pa.Table, latest: datetime) -> pa.Table:
    """`rows` with every `snapshot_at` after `latest` replaced by 1970: a clock was ahead when they were taken in."""
    limit = pa.scalar(latest, UTC)
    newest = pa.compute.max(rows["snapshot_at"]).as_py() if rows.num_rows else None
    if newest is None or newest <= latest:
        return rows
    at = pa.compute.if_else(
        pa.compute.greater(rows["snapshot_at"].cast(UTC), limit), pa.scalar(EPOCH, UTC), rows["snapshot_at"].cast(UTC)
    )
    return rows.set_column(rows.schema.get_field_index("snapshot_at"), "snapshot_at", at)


def rebuild(lake: Lake, system_ids: list[str], *, latest: datetime) -> dict[str, pa.Table]:
    """What every table holds of `system_ids`, newest form of each row. Systems without rows get an empty table.

    A form from a snapshot after `latest` stands behind all others.
    """

    parts = []
    for address, spec in TABLES.items():
        if "content_hash" not in spec.schema.names:
            continue
        columns = ["system_id", "kind", "id", "content_hash", "snapshot_at"]
        dated = "event_day" in spec.schema.names
        found = lake.select(
            address, [*columns, *(["event_day"] if dated else [])], f"system_id IN ({literals(system_ids)})"
        )
        if not dated:
            found = found.append_column("event_day", pa.nulls(found.num_rows, pa.date32()))
        parts.append(found.select([*columns, "event_day"]))
    # Tables differ in what may be null.
    held = pa.concat_tables(
        [part.cast(pa.schema([field.with_nullable(True) for field in part.schema])) for part in parts]
    )
    held = without_future(held, latest)
    gone = lake.select(
        ABSENCES.address,
        ["system_id", "kind", "id", "is_absent", "snapshot_at"],
        f"system_id IN ({literals(system_ids)})",
    )
    gone = without_future(gone, latest)
    with connect() as connection:
        rows = connection.sql(
            """
            WITH newest AS (
                SELECT * FROM held QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC) = 1
            ), presence AS (
                SELECT system_id, kind, id, arg_max(is_absent, snapshot_at) AS is_absent, max(snapshot_at) AS at FROM gone GROUP BY ALL
            )
            SELECT n.system_id, n.kind, n.id, n.content_hash, n.event_day, n.snapshot_at,
                   coalesce(p.is_absent AND p.at >= n.snapshot_at, false) AS is_absent
            FROM newest n LEFT JOIN presence p USING (system_id, kind, id)
            ORDER BY n.system_id
            """
        ).to_arrow_table()
    return split(rows, system_ids)


def raised(rows: pa.Table, digests: dict[str, dict[str, str]]) -> pa.Table:
    """`rows` after files were found unchanged: a file proves the rows it holds until the time of its last snapshot."""
    # Compared as numbers of microseconds: pyarrow knows no larger of two timestamps.
    at, kinds, present = rows["snapshot_at"].cast(pa.int64()), rows["kind"], pa.compute.invert(rows["is_absent"])
    for name, digest in digests.items():
        of_graph = pa.compute.starts_with(kinds, "kg_")
        of_file = of_graph if name.startswith("knowledge_graph") else pa.compute.invert(of_graph)
        proven = pa.scalar(datetime.fromisoformat(digest["at"]), UTC).cast(pa.int64())
        at = pa.compute.if_else(pa.compute.and_(of_file, present), pa.compute.max_element_wise(at, proven), at)
    return rows.set_column(rows.schema.get_field_index("snapshot_at"), "snapshot_at", at.cast(UTC))


def split(rows: pa.Table, system_ids: list[str]) -> dict[str, pa.Table]:
    """`rows` (with `system_id`, in its order) by system; a system without rows gets an empty table."""
    result = dict.fromkeys(system_ids, KNOWN_SCHEMA.empty_table())
    start = 0
    # Rows of a system are together, so their numbers follow from the counts.
    for entry in rows["system_id"].value_counts().to_pylist():
        own = rows.slice(start, entry["counts"])
        result[entry["values"]] = own.select(KNOWN_SCHEMA.names).cast(KNOWN_SCHEMA)
        start += entry["counts"]
    return result

"""The hot tier: embeds rows without a vector, and rewrites event days into few files.

Rows enter through `ingestion/arrivals` and leave through `aging.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import commits, days, quoting, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.schemas import HOT

# Rows embedded per commit: about half a minute of work on two cores, the most that a kill can cost.
COMMIT_ROWS = 8192
# Rows between two checks of `stop`: seconds of work, however long their texts are.
PIECE_ROWS = 128


@dataclass(frozen=True)
class Embedded:
    """The rows that were embedded, and the version of the table afterwards; None if no row needed a vector."""

    rows: int
    version: int | None


def days_without_vectors(lake: Lake, space: str) -> dict[date, int]:
    """Rows by event day that have no vector of `space`."""
    bare = lake.select(HOT.address, ["event_day"], f"space IS NULL OR space <> {quoting.literals([space])}")
    return {entry["values"]: entry["counts"] for entry in bare["event_day"].value_counts().to_pylist()}


def embed_day(
    lake: Lake, day: date, embedder: Embedder, *, run_id: str, stop: Callable[[], bool] = lambda: False
) -> Embedded:
    """Embeds the rows of `day` that have no vector of the embedder's space, until `stop()` is true.

    Rows that change meanwhile are left as they are.
    """
    done, version = 0, None
    where = days.predicate(day, f"space IS NULL OR space <> {quoting.literals([embedder.space])}")
    missing = lake.select(HOT.address, [*IDENTITY, "content_hash", "text"], where).sort_by("system_id")
    for start in range(0, missing.num_rows, COMMIT_ROWS):
        part = missing.slice(start, COMMIT_ROWS)
        vectors: list[bytes] = []
        while len(vectors) < part.num_rows and not stop():
            vectors += as_stored(embedder.embed(part["text"].slice(len(vectors), PIECE_ROWS).to_pylist()))
        if not vectors:
            break
        rows = (
            part.slice(0, len(vectors)).drop_columns(["text"]).append_column("vector", pa.array(vectors, pa.binary()))
        )
        rows = rows.append_column("space", pa.repeat(embedder.space, rows.num_rows))
        systems = quoting.literals(sorted(pc.unique(rows["system_id"]).to_pylist()))
        only = f"t.event_day = DATE '{day}' AND t.system_id IN ({systems})"
        metadata = {"akosha_embed": embedder.space, "akosha_run": run_id}
        version = commits.update_columns(
            lake.uri(HOT.address), rows, ["vector", "space"], lake.storage_options, metadata, only=only
        )
        done += rows.num_rows
    return Embedded(done, version)


def rebuild_day(
    lake: Lake, day: date, *, run_id: str, connection: duckdb.DuckDBPyConnection | None = None
) -> days.Stored:
    """Rewrites `day` into as few files as possible, each memory once in its newest form; returns its size.

    Raises:
        TableContended: rows of the day arrived meanwhile; nothing was changed.
    """
    table = lake.create(HOT.address)
    where = days.predicate(day)
    rows = tables.select(table, HOT.schema.names, HOT.schema, where)
    if rows.num_rows:
        own = connection or connect()
        try:
            own.register("day_rows", rows)
            newest = own.sql(
                """SELECT * FROM day_rows
                QUALIFY 1 = row_number() OVER (
                    PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, batch_id DESC)
                ORDER BY system_id, occurred_at"""
            ).to_arrow_table()
            own.unregister("day_rows")
        finally:
            if connection is None:
                own.close()
        batches = newest.cast(HOT.schema).to_batches()
        days.replace(table, HOT, batches, where, writer=f"rebuild/{HOT.address}", metadata={"akosha_run": run_id})
    return days.stored(lake.create(HOT.address)).get(day, days.Stored(0, 0, 0))

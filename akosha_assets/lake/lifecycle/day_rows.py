"""The rows of one event day in the tiers: which row of a memory is the newest, and rows in batches of useful size.

`warm.py` and `cold.py` convert rows; `moving.py` moves the day.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.table_spec import TableSpec
from akosha_assets.lake.tables import Table

# Rows that are converted at once: enough for vectorized work, few enough for the memory that their words take.
FORM_ROWS = 4_096
# Rows that are sorted and written at once: one row group.
SORT_ROWS = days.ROW_GROUP_ROWS


@dataclass(frozen=True)
class Source:
    """The rows of the day in one tier, at the version of `table`."""

    tier: str
    table: Table
    spec: TableSpec
    rows: int


def open_source(handles: TableCache, tier: str, day: date) -> Source | None:
    """The current rows of the day in `tier`; None if the tier has no table."""
    table = handles.open(address(tier))
    return None if table is None else Source(tier, table, handles.lake.spec(address(tier)), rows_of(table, day))


def rows_of(table: Table, day: date) -> int:
    """The number of rows of the day, from the table's log."""
    stored = days.stored(table).get(day)
    return stored.rows if stored else 0


def superseded(sources: list[Source], day: date) -> dict[str, pa.Array]:
    """The keys of superseded rows by tier: another source has a row of a newer snapshot, or a hotter form."""
    if len(sources) < 2:
        return {}
    with duckdb.connect() as connection:
        for source in sources:
            columns = [*IDENTITY, "snapshot_at"]
            schema = pa.schema([source.spec.schema.field(name) for name in columns])
            connection.register(
                source.tier,
                pa.Table.from_batches(days.stream(source.table, source.spec, columns, days.predicate(day)), schema),
            )
        union = " UNION ALL ".join(
            f"SELECT *, '{source.tier}' AS tier, {rank} AS rank FROM {source.tier}"  # noqa: S608
            for rank, source in enumerate(sources)
        )
        old = connection.sql(
            f"SELECT tier, system_id, kind, id FROM ({union}) "  # noqa: S608
            "QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, rank) > 1"
        ).to_arrow_table()
    return {
        source.tier: keys(rows).cast(pa.string())
        for source in sources
        if (rows := old.filter(pc.equal(old["tier"], source.tier)).combine_chunks()).num_rows
    }


def keys(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """The identity of each row as one string: (rows,) string."""
    keys = pc.binary_join_element_wise(*[rows[name] for name in IDENTITY], "\x00")
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def rebatched(batches: Iterable[pa.RecordBatch], rows: int = FORM_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about `rows`; a day of many small uploads has many small files."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            waiting.append(batch.slice(start, rows))
            if sum(part.num_rows for part in waiting) >= rows:
                yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
                waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def in_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, each batch sorted by system and time, which compresses well."""
    for batch in rebatched(batches, SORT_ROWS):
        yield batch.take(
            pc.sort_indices(
                batch, sort_keys=[("system_id", "ascending"), ("occurred_at", "ascending"), ("id", "ascending")]
            )
        )

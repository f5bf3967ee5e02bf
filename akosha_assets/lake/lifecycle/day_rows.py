"""The rows of event days in the tiers: which row of a memory is the newest, and rows in batches of useful size.

`warm.py` and `cold.py` convert rows; `moving.py` moves the days.
"""

from collections.abc import Collection, Iterable, Iterator
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


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows of some event days in one tier, at the version of `table`. `rows_of` has the days that have rows."""

    tier: str
    table: Table
    spec: TableSpec
    rows_of: dict[date, int]

    @property
    def rows(self) -> int:
        """The rows of all its days."""
        return sum(self.rows_of.values())


def open_source(handles: TableCache, tier: str, event_days: Collection[date]) -> Source | None:
    """The current rows of `event_days` in `tier`; None if the tier has no table."""
    table = handles.open(address(tier))
    return None if table is None else source_of(handles, tier, table, event_days)


def source_of(handles: TableCache, tier: str, table: Table, event_days: Collection[date]) -> Source:
    """The rows of `event_days` in the table of `tier`, at the version of `table`."""
    spec = handles.lake.spec(address(tier))
    return Source(tier=tier, table=table, spec=spec, rows_of=count_rows(table, event_days))


def count_rows(table: Table, event_days: Collection[date]) -> dict[date, int]:
    """The number of rows of each of `event_days` that has any, from the table's log."""
    stored = days.stored(table)
    return {day: stored[day].rows for day in event_days if day in stored and stored[day].rows}


def superseded(sources: list[Source], event_days: Collection[date]) -> dict[str, pa.Array]:
    """The `day_keys` of superseded rows by tier: another source has a row of a newer snapshot, or a hotter form."""
    if len(sources) < 2:
        return {}
    columns = [*IDENTITY, "event_day", "snapshot_at"]
    with duckdb.connect() as connection:
        for source in sources:
            schema = pa.schema([source.spec.schema.field(name) for name in columns])
            batches = days.stream(source.table, source.spec, columns, days.predicate(event_days))
            connection.register(source.tier, pa.Table.from_batches(batches, schema))
        union = " UNION ALL ".join(
            f"SELECT *, '{source.tier}' AS tier, {rank} AS rank FROM {source.tier}"  # noqa: S608
            for rank, source in enumerate(sources)
        )
        old = connection.sql(
            f"SELECT tier, system_id, kind, id, event_day FROM ({union}) QUALIFY row_number() OVER "  # noqa: S608
            "(PARTITION BY system_id, kind, id, event_day ORDER BY snapshot_at DESC, rank) > 1"
        ).to_arrow_table()
    return {
        source.tier: day_keys(rows).cast(pa.string())
        for source in sources
        if (rows := old.filter(pc.equal(old["tier"], source.tier)).combine_chunks()).num_rows
    }


def keys(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """The identity of each row as one string: (rows,) string."""
    keys = pc.binary_join_element_wise(*[rows[name] for name in IDENTITY], "\x00")
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def day_keys(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """The identity and the event day of each row as one string: (rows,) string."""
    keys = pc.binary_join_element_wise(*[rows[name] for name in IDENTITY], rows["event_day"].cast(pa.string()), "\x00")
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
    """The same rows, each batch sorted by day, system and time, which compresses well."""
    order = [(name, "ascending") for name in ("event_day", "system_id", "occurred_at", "id")]
    for batch in rebatched(batches, SORT_ROWS):
        yield batch.take(pc.sort_indices(batch, sort_keys=order))

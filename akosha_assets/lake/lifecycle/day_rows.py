"""The rows of one event day as they lie in the tiers: which form of a memory counts, and rows in workable batches.

What a row becomes is in `warm.py` and `cold.py`; moving the day is in `aging.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from akosha_assets.lake import days
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.table_spec import TableSpec

# Rows whose form is made at once: enough to be vectorised, few enough that their words fit in memory many times over.
FORM_ROWS = 4_096
# Rows that are sorted and written at once: a row group.
SORT_ROWS = days.ROW_GROUP_ROWS


@dataclass(frozen=True)
class Source:
    """One tier's rows of the day, at the version that was read."""

    tier: str
    table: DeltaTable
    spec: TableSpec
    rows: int


def opened(handles: TableCache, tier: str, day: date) -> Source | None:
    """The day as it lies in `tier` now; None where the tier has no table."""
    table = handles.open(address(tier))
    return None if table is None else Source(tier, table, handles.lake.spec(address(tier)), rows_of(table, day))


def rows_of(table: DeltaTable, day: date) -> int:
    """Rows of the day, by the table's log."""
    lying = days.stored(table).get(day)
    return lying.rows if lying else 0


def superseded(lying: list[Source], day: date) -> dict[str, pa.Array]:
    """By tier, the keys of rows that another source holds from a newer snapshot, or from the same one in a hotter form."""
    if len(lying) < 2:
        return {}
    with duckdb.connect() as connection:
        for source in lying:
            columns = [*IDENTITY, "snapshot_at"]
            schema = pa.schema([source.spec.schema.field(name) for name in columns])
            connection.register(
                source.tier,
                pa.Table.from_batches(days.stream(source.table, source.spec, columns, days.predicate(day)), schema),
            )
        union = " UNION ALL ".join(
            f"SELECT *, '{source.tier}' AS tier, {rank} AS rank FROM {source.tier}" for rank, source in enumerate(lying)
        )
        lost = connection.sql(
            f"SELECT tier, system_id, kind, id FROM ({union}) "
            "QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, rank) > 1"
        ).to_arrow_table()
    return {
        source.tier: keys(rows).cast(pa.string())
        for source in lying
        if (rows := lost.filter(pc.equal(lost["tier"], source.tier)).combine_chunks()).num_rows
    }


def keys(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """The identity of each row as one string."""
    keys = pc.binary_join_element_wise(*[rows[name] for name in IDENTITY], "\x00")
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def rebatched(batches: Iterable[pa.RecordBatch], rows: int = FORM_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about `rows`: a day of many small uploads lies in many small files."""
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
    """The same batches, each by system and time: neighbours then share their columns' values, which compresses well."""
    for batch in rebatched(batches, SORT_ROWS):
        yield batch.take(
            pc.sort_indices(
                batch, sort_keys=[("system_id", "ascending"), ("occurred_at", "ascending"), ("id", "ascending")]
            )
        )

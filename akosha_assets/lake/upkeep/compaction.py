"""Compacts the files of each day, and sorts days at rest: `upkeep/compaction`.

Small commits leave small files. A day that still receives rows is compacted without sorting; a day at rest is sorted by
system and time, so that a read of one system touches few files. Then the log gets a checkpoint and its old entries are
removed. No row changes, and readers of an older version keep their files until vacuum.
"""

import logging
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from akosha_assets.lake import days, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.errors import TableContended
from akosha_assets.lake.table_spec import TableSpec

logger = logging.getLogger(__name__)

TARGET_BYTES = 128 * 1024 * 1024
# A day that still receives rows is compacted at this many files: less often costs reads, more often rewrites.
BUSY_FILES = 16
RESTS_AFTER_DAYS = 2
ORDER = ("system_id", "occurred_at")
# Memory for sorting a day; more spills to disk.
SORT_MIB = 512
BATCH_ROWS = 8_192


@dataclass(frozen=True)
class Compacted:
    """The result of compacting one table. `contended`: partitions that were skipped because of other writers."""

    address: str
    partitions: int
    partitions_compacted: int
    files_before: int
    files_after: int
    stored_bytes: int
    contended: int
    version: int


def compact(lake: Lake, address: str, *, today: date) -> Compacted | None:
    """Compacts the table at `address`; None if it does not exist. Rows do not change."""
    if lake.open(address) is None:
        return None
    table = lake.create(address)
    files_before = len(table.file_uris())
    parts = _parts(lake, table, address, today)
    contended = 0
    for day, is_at_rest in parts:
        try:
            _pack(table, lake.spec(address), day, is_ordered=is_at_rest)
        except TableContended as error:
            # Another writer changed the same files; the next run tries again.
            logger.info(
                "a partition changed while it was compacted",
                extra={"table": address, "day": str(day), "cause": str(error)},
            )
            contended += 1
            tables.refresh(table)
    tables.clean_log(table)
    stored = sum(pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist())
    partitions = len(days.stored(table)) if lake.spec(address).partition_by else 1
    return Compacted(
        address,
        partitions,
        len(parts) - contended,
        files_before,
        len(table.file_uris()),
        stored,
        contended,
        table.version(),
    )


def _parts(lake: Lake, table: tables.Table, address: str, today: date) -> list[tuple[date | None, bool]]:
    """The days that need compaction, and whether each is at rest; (None, False) for a table without partitions."""
    if not lake.spec(address).partition_by:
        return [(None, False)] if len(table.file_uris()) >= BUSY_FILES else []
    found: list[tuple[date | None, bool]] = []
    for day, stored in sorted(days.stored(table).items()):
        # Late rows add small files to an old day.
        is_at_rest = (today - day) >= timedelta(days=RESTS_AFTER_DAYS)
        needed = -(-stored.stored_bytes // TARGET_BYTES)
        # A large day at rest waits until it has as many small files as full ones; otherwise late rows would cause a
        # rewrite every hour.
        if stored.files > needed and (stored.files >= 2 * needed if is_at_rest else stored.files >= BUSY_FILES):
            found.append((day, is_at_rest))
    return found


def _pack(table: tables.Table, spec: TableSpec, day: date | None, *, is_ordered: bool) -> None:
    if day is not None and is_ordered:
        _order(table, spec, day)
        return
    filters = None if day is None else [("event_day", "=", day.isoformat())]
    tables.pack(table, filters, file_bytes=TARGET_BYTES, row_group_rows=days.ROW_GROUP_ROWS)


def _order(table: tables.Table, spec: TableSpec, day: date) -> None:
    """Rewrites the day sorted by system and time.

    Not `optimize.z_order`: it interleaves leading bits, and most system ids share a prefix.
    """
    with (
        tempfile.TemporaryDirectory(prefix="akosha-order-") as spill,
        connect(memory_mib=SORT_MIB, spill=Path(spill)) as connection,
    ):
        rows = pa.RecordBatchReader.from_batches(
            spec.schema, days.stream(table, spec, spec.schema.names, days.predicate(day))
        )
        connection.register("rows_of_day", rows)
        ordered = connection.sql(f"SELECT * FROM rows_of_day ORDER BY {', '.join(ORDER)}").to_arrow_reader(BATCH_ROWS)  # noqa: S608
        batches = (batch.cast(spec.schema) for batch in ordered)
        metadata = {"akosha_op": "order", "event_day": day.isoformat()}
        days.replace(
            table, spec, batches, days.predicate(day), writer=f"order/{day}", metadata=metadata, file_bytes=TARGET_BYTES
        )

"""Delta operations on one event day: its size, stream, replace, remove.

A change uses the handle whose rows were read. If another writer changed the day since, the commit fails with
`TableContended` and the caller reads again. Operations on whole batches are in `tables.py`.
"""

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from akosha_assets.lake import commits, tables
from akosha_assets.lake.row_rules import repair
from akosha_assets.lake.table_spec import TableSpec, bare

# Values of these columns never repeat, so a dictionary would be built and thrown away.
_UNIQUE = ("vector", "sketch", "fingerprint", "id", "content_hash")
# What a reader has to fetch and a writer has to hold at once, for each column: small, or a day of a million rows fills
# the memory.
ROW_GROUP_ROWS = 16_384
_STREAMING = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """What the table's log says of one event day."""

    rows: int
    stored_bytes: int
    files: int


def stored(table: DeltaTable) -> dict[date, Stored]:
    """Rows, bytes and files of every event day that holds any, from the log alone."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return {}
    by_day = actions.group_by("partition.event_day").aggregate(
        [("num_records", "sum"), ("size_bytes", "sum"), ("path", "count")]
    )
    return {
        row["partition.event_day"]: Stored(row["num_records_sum"] or 0, row["size_bytes_sum"], row["path_count"])
        for row in by_day.to_pylist()
    }


def predicate(day: date | Collection[date], where: str = "") -> str:
    """SQL that selects the rows of one event day, or of several, for which `where` holds."""
    names = [f"DATE '{one.isoformat()}'" for one in ([day] if isinstance(day, date) else day)]
    chosen = f"event_day = {names[0]}" if len(names) == 1 else f"event_day IN ({', '.join(names)})"
    return chosen + (f" AND ({where})" if where else "")


def stream(table: DeltaTable, spec: TableSpec, columns: list[str], where: str) -> Iterator[pa.RecordBatch]:
    """`columns` of the rows for which `where` holds, a few thousand rows at a time, in no order."""
    wanted = pa.schema([spec.schema.field(name) for name in columns])
    names = ", ".join(f'"{name}"' for name in columns)
    with tables.read_errors(table.table_uri):
        found = QueryBuilder().register("t", table).execute(f"SELECT {names} FROM t WHERE {where}")
        # Read by pyarrow, which lets other threads run while a store answers; the reader that is returned does not.
        reader = pa.RecordBatchReader.from_stream(found)
    while (batch := _next(reader, table.table_uri)) is not None:
        yield batch.cast(wanted)


def _next(reader: pa.RecordBatchReader, uri: str) -> pa.RecordBatch | None:
    try:
        with tables.read_errors(uri):
            return reader.read_next_batch()
    except StopIteration:
        return None


def replace(
    table: DeltaTable,
    spec: TableSpec,
    batches: Iterable[pa.RecordBatch],
    where: str,
    *,
    writer: str | Collection[str],
    metadata: dict[str, str],
    file_bytes: int | None = None,
) -> int:
    """Replaces the rows that match `where` by `batches` in one commit; returns the version that has them.

    `file_bytes`: the target size of a file. A list is written as it is; an iterator is consumed batch by batch, by one
    thread of the process at a time.

    Raises:
        TableContended: another commit touched those rows, or `writer` committed elsewhere, since `table` was opened.
        StoreUnavailable: the store does not work, or data files of the table are gone.
    """

    # Column comments belong to the table: in each file they would take 4 kB, more than a few rows.
    plain = bare(spec.schema)

    def write(source: Iterable[pa.RecordBatch]) -> None:
        with tables.write_errors(table):
            write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(plain, (_sound(batch, plain) for batch in source)),
                mode="overwrite",
                predicate=where,
                target_file_size=file_bytes,
                commit_properties=_once(table, writer, metadata),
                writer_properties=_writer(spec),
            )

    if isinstance(batches, list):
        write(batches)
    else:
        _handed(batches, write)
    return table.version()


def _sound(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows, repaired where they break a rule: earlier versions had fewer rules."""
    return repair(pa.RecordBatch.from_arrays(batch.columns, schema=schema))[0]


def _writer(spec: TableSpec) -> WriterProperties:
    """Statistics of the columns that select files only: on a small day, those of all columns outweigh the rows."""
    columns = {
        name: ColumnProperties(
            dictionary_enabled=name not in _UNIQUE, statistics_enabled="CHUNK" if name in spec.statistics else "NONE"
        )
        for name in {*spec.statistics, *_UNIQUE} & {*spec.schema.names}
    }
    return WriterProperties(
        compression="ZSTD",
        compression_level=6,
        max_row_group_size=ROW_GROUP_ROWS,
        default_column_properties=ColumnProperties(statistics_enabled="NONE"),
        column_properties=columns,
    )


def _handed(batches: Iterable[pa.RecordBatch], write: Callable[[Iterable[pa.RecordBatch]], None]) -> None:
    """Calls `write` in a thread with `batches`, which the calling thread produces.

    delta-rs pulls the batches from inside its runtime, where another table cannot be read.
    """
    handed: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(maxsize=2)

    def taken() -> Iterator[pa.RecordBatch]:
        while (batch := handed.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    # A write that waits for a batch blocks a thread of delta-rs; two of them could block all threads that read.
    with _STREAMING, ThreadPoolExecutor(1, thread_name_prefix="delta-write") as pool:
        writing = pool.submit(write, taken())
        try:
            for batch in batches:
                if not _put(handed, batch, writing):
                    break
            _put(handed, None, writing)
        except BaseException as error:
            # The write must fail and not end as if these were all rows.
            _put(handed, error, writing)
            raise
        writing.result()


def _put(handed: queue.Queue[Any], item: object, writing: Future[None]) -> bool:
    """Puts `item` into the queue; False if the write has already ended."""
    while not writing.done():
        try:
            handed.put(item, timeout=0.5)
        except queue.Full:
            continue
        return True
    return False


def append(table: DeltaTable, rows: pa.Table, *, writer: str | Collection[str], metadata: dict[str, str]) -> None:
    """`rows` are added, by one commit. Raises as `replace`."""
    rows = commits.checked(table.table_uri, rows)
    with tables.write_errors(table):
        write_deltalake(
            table, rows.cast(bare(rows.schema)), mode="append", commit_properties=_once(table, writer, metadata)
        )


def remove(table: DeltaTable, where: str, *, writer: str | Collection[str], metadata: dict[str, str]) -> int:
    """No row for which `where` holds is left, by one commit; returns how many went. Raises as `replace`."""
    with tables.write_errors(table):
        outcome = table.delete(where, commit_properties=_once(table, writer, metadata))
    return int(outcome["num_deleted_rows"] or 0)


def _once(table: DeltaTable, writer: str | Collection[str], metadata: dict[str, str]) -> CommitProperties:
    """Two commits of one writer that were prepared on the same version exclude each other."""
    writers = [writer] if isinstance(writer, str) else writer
    return CommitProperties(
        custom_metadata=metadata,
        max_commit_retries=50,
        app_transactions=[Transaction(name, (tables.committed_sequence(table, name) or 0) + 1) for name in writers],
    )

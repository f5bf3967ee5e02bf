"""Reads and changes event days of Delta tables: sizes, stream, replace, append, remove.

A change is made with the handle whose rows were read. If another commit touched the days since then, the commit fails
with `TableContended` and the caller reads again. Writes of batches are in `commits.py`.
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
from akosha_assets.lake.table_spec import TableSpec, bare, rows_with_columns

# Their values never repeat, so a dictionary would be built for nothing.
_UNIQUE = ("vector", "sketch", "passages", "fingerprint", "id", "content_hash")
# A reader fetches and a writer holds a whole row group of a column; a large one of a large day would fill the memory.
ROW_GROUP_ROWS = 16_384
_STREAMING = threading.Lock()


@dataclass(frozen=True)
class Stored:
    """The size of one event day, from the table's log."""

    rows: int
    stored_bytes: int
    files: int


def stored(table: DeltaTable) -> dict[date, Stored]:
    """Rows, bytes and files of every event day that has any, from the log alone."""
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
    """Yields `columns` of the rows for which `where` holds, a few thousand rows at a time, in no order.

    Raises:
        StoreUnavailable: a data file cannot be read.
    """
    wanted = pa.schema([spec.schema.field(name) for name in columns])
    names = ", ".join(f'"{name}"' for name in columns)
    rows = rows_with_columns(tables.column_names(table), spec.schema)
    with tables.read_errors(table.table_uri):
        found = QueryBuilder().register("t", table).execute(f"SELECT {names} FROM {rows} WHERE {where}")  # noqa: S608
        # pyarrow releases the interpreter lock while it waits for a store; the reader that `execute` returns does not.
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
    """Replaces the rows for which `where` holds by `batches`, in one commit; returns the version that contains them.

    Files are at most about `file_bytes` long. A list is written as it is; an iterator is consumed batch by batch, by
    one thread of the process at a time.

    Raises:
        TableContended: another commit touched those rows, or `writer` committed elsewhere, since `table` was opened.
        StoreUnavailable: the store does not work, or data files of the table are gone.
    """

    # Without comments: they take 4 kB in each file, more than a few rows do.
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
    """The rows, repaired: rows that an earlier version wrote may break a row rule."""
    return repair(pa.RecordBatch.from_arrays(batch.columns, schema=schema))[0]


def _writer(spec: TableSpec) -> WriterProperties:
    """Writes statistics only of columns that prune files: those of all others take more space than a small day."""
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
    """Runs `write` on `batches`, which are produced in the calling thread.

    delta-rs consumes them in a thread of its own, in which no other table can be read.
    """
    handed: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(maxsize=2)

    def taken() -> Iterator[pa.RecordBatch]:
        while (batch := handed.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    # A write that waits for its next batch blocks a thread of delta-rs; two of them could block every thread that
    # reads.
    with _STREAMING, ThreadPoolExecutor(1, thread_name_prefix="delta-write") as pool:
        writing = pool.submit(write, taken())
        try:
            for batch in batches:
                if not _put(handed, batch, writing):
                    break
            _put(handed, None, writing)
        except BaseException as error:
            # The write must fail, not commit the rows so far.
            _put(handed, error, writing)
            raise
        writing.result()


def _put(handed: queue.Queue[Any], item: object, writing: Future[None]) -> bool:
    """Queues `item`; False if the write has ended already."""
    while not writing.done():
        try:
            handed.put(item, timeout=0.5)
        except queue.Full:
            continue
        return True
    return False


def append(table: DeltaTable, rows: pa.Table, *, writer: str | Collection[str], metadata: dict[str, str]) -> None:
    """Appends `rows` in one commit. Raises as `replace`."""
    rows = commits.checked(table.table_uri, rows)
    with tables.write_errors(table):
        write_deltalake(
            table, rows.cast(bare(rows.schema)), mode="append", commit_properties=_once(table, writer, metadata)
        )


def remove(table: DeltaTable, where: str, *, writer: str | Collection[str], metadata: dict[str, str]) -> int:
    """Removes the rows for which `where` holds, in one commit; returns how many. Raises as `replace`."""
    with tables.write_errors(table):
        outcome = table.delete(where, commit_properties=_once(table, writer, metadata))
    return int(outcome["num_deleted_rows"] or 0)


def _once(table: DeltaTable, writer: str | Collection[str], metadata: dict[str, str]) -> CommitProperties:
    """Properties by which two commits of one writer that start from the same version conflict."""
    writers = [writer] if isinstance(writer, str) else writer
    return CommitProperties(
        custom_metadata=metadata,
        max_commit_retries=50,
        app_transactions=[Transaction(name, (tables.committed_sequence(table, name) or 0) + 1) for name in writers],
    )

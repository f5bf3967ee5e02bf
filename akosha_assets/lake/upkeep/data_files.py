"""Reads one Parquet data file of a table without the table's log: its rows, checked against the schema, and statistics.

What becomes of the files is in `repair.py`.
"""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from akosha_assets.lake.objects import Object, ObjectStore
from akosha_assets.lake.table_spec import TableSpec, bare
from akosha_assets.lake.tables import FileEntry

BATCH_ROWS = 16_384
FILE_MAX_BYTES = 16 * 1024**3
DAY = "event_day"
# Longer texts get no statistics: they would make the log large.
STATISTIC_MAX_CHARS = 256
_DAY_FOLDER = re.compile(r"(?:^|/)event_day=(\d{4}-\d{2}-\d{2})/")


class UnreadableFile(Exception):
    """A data file is damaged or does not have the columns of its table; the message says which."""


def local_copy(store: ObjectStore, key: str, folder: Path, stack: ExitStack) -> Path:
    """The file at `key` on this machine; a copy of a remote one is in `folder` as long as `stack` is open.

    Raises:
        UploadRejected: it is not there, or not a regular file.
        StoreUnavailable: the store did not answer.
    """
    if store.folder is not None:
        return store.folder / key
    path = folder / f"{uuid.uuid4().hex}.parquet"
    stack.callback(path.unlink, missing_ok=True)
    store.fetch(key, path, max_bytes=FILE_MAX_BYTES)
    return path


def day_of_path(key: str) -> date | None:
    """The event day that the folders of a data file name."""
    folder = _DAY_FOLDER.search(key)
    return date.fromisoformat(folder[1]) if folder else None


def read_columns(path: Path, key: str, spec: TableSpec, columns: list[str]) -> Iterator[pa.Table]:
    """`columns` of a data file that a log names; those that the table is partitioned by come from the path.

    Raises:
        UnreadableFile: it is no Parquet file of the table.
    """
    stored = [name for name in columns if name not in spec.partition_by]
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=stored):
                rows = pa.table(batch).select(stored)
                for name in spec.partition_by:
                    rows = rows.append_column(name, pa.repeat(pa.scalar(day_of_path(key), pa.date32()), len(rows)))
                yield rows
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UnreadableFile(str(error).splitlines()[0]) from error


@dataclass
class TableFile:
    """The data file `entry` of the lake, at `path` on this machine. `rows` and `day` are set once it was read."""

    entry: Object
    path: Path
    spec: TableSpec
    rows: int = 0
    day: date | None = None
    _ranges: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _nulls: dict[str, int] = field(default_factory=dict)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Every row with the columns of the table, in the order of the file.

        Raises:
            UnreadableFile: a page cannot be decoded, a column is missing, has another type, or holds a null where the
                schema forbids it, or the rows are on more than one event day.
        """
        self.rows, self._ranges, self._nulls = 0, {}, {}
        try:
            with pq.ParquetFile(self.path) as parquet:
                self.day = day_of_path(self.entry.key) if self.spec.partition_by else None
                for batch in parquet.iter_batches(BATCH_ROWS):
                    yield self._take(batch)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UnreadableFile(str(error).splitlines()[0]) from error

    def describe(self) -> FileEntry:
        """The file as a Delta log describes it; it was read to its end before."""
        partition = {DAY: str(self.day)} if self.spec.partition_by else {}
        bounds = {name: both for name, both in self._ranges.items() if all(map(_is_short, both))}
        statistics = {
            "numRecords": self.rows,
            "minValues": {name: _as_json(low) for name, (low, _) in bounds.items()},
            "maxValues": {name: _as_json(high) for name, (_, high) in bounds.items()},
            "nullCount": self._nulls,
        }
        return FileEntry(
            path=quote(self.entry.key, safe="/="),
            size_bytes=self.entry.size_bytes,
            modified_at=self.entry.modified_at,
            partition=partition,
            statistics=json.dumps(statistics, ensure_ascii=False),
        )

    def _take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = bare(self.spec.schema)
        columns = [self._column(batch, one) for one in schema]
        for one, column in zip(schema, columns, strict=True):
            if not one.nullable and column.null_count:
                raise ValueError(f"column {one.name} holds {column.null_count} nulls, expected none")
        taken = pa.RecordBatch.from_arrays(columns, schema=schema)
        self._count(taken)
        return taken

    def _column(self, batch: pa.RecordBatch, wanted: pa.Field) -> pa.Array:
        if wanted.name in self.spec.partition_by:
            return pa.repeat(pa.scalar(self._day_of_rows(batch), pa.date32()), batch.num_rows)
        if wanted.name in batch.schema.names:
            return batch[wanted.name].cast(wanted.type)
        if wanted.nullable:
            return pa.nulls(batch.num_rows, wanted.type)
        raise ValueError(f"column {wanted.name} is missing")

    def _day_of_rows(self, batch: pa.RecordBatch) -> date:
        """The day that the path names, else the only one among the rows."""
        if self.day is None:
            if DAY not in batch.schema.names:
                raise ValueError("neither the path nor a column names the event day")
            self.day = batch[DAY][0].as_py()
        if DAY in batch.schema.names:
            found = [one for one in pc.unique(batch[DAY]).to_pylist() if one != self.day]
            if found or self.day is None:
                raise ValueError(f"rows of event day {(found or [None])[0]} lie beside those of {self.day}")
        return self.day

    def _count(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        for name in self.spec.statistics:
            if name in self.spec.partition_by:
                continue
            column = batch[name]
            self._nulls[name] = self._nulls.get(name, 0) + column.null_count
            found = pc.min_max(column)
            low, high = found["min"].as_py(), found["max"].as_py()
            if low is not None:
                before = self._ranges.get(name, (low, high))
                self._ranges[name] = (min(before[0], low), max(before[1], high))


def _is_short(value: Any) -> bool:
    return not isinstance(value, str) or len(value) <= STATISTIC_MAX_CHARS


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value.isoformat() if isinstance(value, date) else value

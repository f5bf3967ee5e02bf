"""Rows of one table of a large upload, in a file that only this process can open; read back part by part.

An upload of a few megabytes may contain gigabytes of rows (repeated text, compressed columns). Only their keys, days
and sizes stay in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The most that is read back and committed at once; a single larger row is a part of its own.
PART_BYTES = 32 * 1024**2
PART_ROWS = 100_000

KEYS = pa.schema([("kind", pa.string()), ("id", pa.string())])


@dataclass(frozen=True, kw_only=True)
class SpooledRows:
    """The rows of one table in the record batches of `file`, which is unlinked."""

    file: pa.ipc.RecordBatchFileReader
    schema: pa.Schema
    starts: np.ndarray  # (batches + 1,) int64: the number of the first row of each record batch, then the row count
    keys: pa.Table  # KEYS, in the order of the rows
    days: np.ndarray  # (rows,) int32: event day as days since 1970; zeros if the table has no event days
    sizes: np.ndarray  # (rows,) int64: bytes of each row in Arrow

    @staticmethod
    def write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path) -> "SpooledRows":
        """Writes the rows of `batches` to an unlinked file of `folder`; its space is freed with the last reference.

        Raises: OSError when they cannot be written.
        """
        keys, days, sizes = [], [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        with NamedTemporaryFile(dir=folder, suffix=".arrow") as temporary:
            with pa.OSFile(temporary.name, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    # A copy: a view would keep the whole batch in memory.
                    keys.append(batch.select(KEYS.names).cast(KEYS).take(pa.array(np.arange(batch.num_rows))))
                    days.append(_days(batch))
                    sizes.append(row_bytes(batch))
            file = pa.ipc.open_file(pa.OSFile(temporary.name))
        starts = np.cumsum([0, *map(len, sizes[1:])])
        return SpooledRows(
            file=file,
            schema=schema,
            starts=starts,
            keys=pa.Table.from_batches(keys, KEYS),
            days=np.concatenate(days),
            sizes=np.concatenate(sizes),
        )

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.sizes)

    def parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yields `rows` (row numbers, int64) in parts that fit in memory, latest days first, ascending in each part.

        Rows of a day stay together as far as they fit, so a day gets few files.
        """
        order = rows[np.lexsort((rows, -self.days[rows]))]
        start, total = 0, np.cumsum(self.sizes[order])
        while start < len(order):
            used = total[start - 1] if start else 0
            fit = int(np.searchsorted(total, used + PART_BYTES, side="right"))
            stop = min(max(fit, start + 1), start + PART_ROWS)
            yield np.sort(order[start:stop])
            start = stop

    def take(self, rows: np.ndarray) -> pa.Table:
        """Returns the rows with the numbers `rows` (int64, ascending)."""
        places = np.searchsorted(self.starts, rows, side="right") - 1
        batches = [
            self.file.get_batch(int(place)).take(pa.array(rows[places == place] - self.starts[place]))
            for place in np.unique(places)
        ]
        return pa.Table.from_batches(batches, self.schema)


def row_bytes(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the bytes of each row in Arrow, without offsets and validity: (rows,) int64."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_list(column.type):
            item_bytes = np.concatenate([[0], np.cumsum(pc.binary_length(column.flatten()).fill_null(0).to_numpy())])
            ends = np.cumsum(pc.list_value_length(column).fill_null(0).to_numpy())
            sizes += np.diff(item_bytes[np.concatenate([[0], ends])])
        elif pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes += pc.binary_length(column).fill_null(0).to_numpy()
        else:
            sizes += column.type.bit_width // 8
    return sizes


def _days(batch: pa.RecordBatch) -> np.ndarray:
    if "event_day" not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int32)
    # A copy: a view would keep the whole batch in memory.
    return np.array(batch.column("event_day").cast(pa.int32()), np.int32)

"""Which rows of many data files count: one row for each key, the newest. Spills to disk; holds no whole row."""

from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.lake.table_spec import TableSpec
from akosha_assets.lake.tables import CLOCKS_AHEAD

MEMORY_MIB = 512


class RowIndex:
    """The keys of the rows of numbered files, in the order of the files."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, spec: TableSpec, *, now: datetime):
        self._connection, self._spec, self._now = connection, spec, now
        self._columns = list(dict.fromkeys([*spec.row_key, *spec.newest_by, *filter(None, [spec.run_column])]))
        if "space" in spec.schema.names:
            self._columns.append("space")
        empty = spec.schema.empty_table().select(self._columns)
        connection.register("batch", self._numbered(empty, 0, 0, now))
        connection.execute("CREATE TABLE keys AS SELECT * FROM batch")

    def add(self, file: int, modified_at: datetime, first_row: int, batch: pa.RecordBatch) -> None:
        """Rows of `file`, which was last changed at `modified_at`, from `first_row` on."""
        rows = pa.table(batch).select(self._columns)
        self._connection.register("batch", self._numbered(rows, file, first_row, modified_at))
        self._connection.execute("INSERT INTO keys SELECT * FROM batch")

    def remove(self, file: int) -> None:
        """Rows of `file` do not take part."""
        self._connection.execute("DELETE FROM keys WHERE file = ?", [file])

    def superseded(self) -> dict[int, np.ndarray]:
        """By file, the rows that do not count: (rows,) int64, ascending."""
        rows = self._connection.sql(self._query()).to_arrow_table().combine_chunks()
        files, places = rows["file"].to_numpy(), rows["place"].to_numpy()
        numbers, starts = np.unique(files, return_index=True)
        return dict(zip(numbers.tolist(), np.split(places, starts[1:]), strict=True)) if len(numbers) else {}

    def _numbered(self, rows: pa.Table, file: int, first_row: int, modified_at: datetime) -> pa.Table:
        count = rows.num_rows
        places = pa.array(np.arange(first_row, first_row + count))
        return (
            rows.append_column("file", pa.repeat(pa.scalar(file, pa.int64()), count))
            .append_column("place", places)
            .append_column("modified_at", pa.repeat(pa.scalar(modified_at, pa.timestamp("us", tz="UTC")), count))
        )

    def _query(self) -> str:
        spec = self._spec
        if spec.is_replaced_by_day:
            # The newest file of a day holds all that its last write left.
            rank = "dense_rank() OVER (PARTITION BY event_day ORDER BY modified_at DESC, file DESC)"
        else:
            order = [f'"{name}" DESC NULLS LAST' for name in spec.newest_by]
            if "snapshot_at" in spec.newest_by:
                latest = (self._now + CLOCKS_AHEAD).isoformat()
                # A snapshot from the future was taken while a clock was ahead: every other form replaces it.
                order.insert(0, f"snapshot_at > TIMESTAMPTZ '{latest}'")
            if "space" in self._columns:
                order.append("space IS NULL")
            order += ["modified_at DESC", "file DESC", "place DESC"]
            key = ", ".join(f'"{name}"' for name in spec.row_key)
            rank = f"row_number() OVER (PARTITION BY {key} ORDER BY {', '.join(order)})"
        is_old = f'OR "{spec.run_column}" < (SELECT max("{spec.run_column}") FROM keys)' if spec.run_column else ""  # noqa: S608
        return f"SELECT file, place FROM keys QUALIFY {rank} > 1 {is_old} ORDER BY file, place"  # noqa: S608

"""What is checked before a row is removed: count, keys and checksum of rows, whatever their order and batches."""

from collections.abc import Iterable, Iterator

import duckdb
import pyarrow as pa


class Digest:
    """Sums of 64-bit hashes over the rows of a tier table; equal for the same rows in any order. `connection` does the hashing."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.rows = 0
        self.rows_without_vector = 0
        self.keys = 0
        self.content = 0

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, counted on their way."""
        for batch in batches:
            self.rows += batch.num_rows
            self.rows_without_vector += batch["space"].null_count
            self.keys += _keys(self._connection, batch)
            self._connection.register("batch", pa.table(batch))
            self.content += _one(self._connection, "SELECT sum(hash(batch)::HUGEINT) FROM batch")
            yield batch

    def add_keys(self, batch: pa.RecordBatch) -> None:
        """Count the rows and keys of `batch` alone, for rows whose form is about to change."""
        self.rows += batch.num_rows
        self.keys += _keys(self._connection, batch)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.rows, self.keys, self.content) == (other.rows, other.keys, other.content)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.rows} rows, keys {self.keys:x}, content {self.content:x}"


def _keys(connection: duckdb.DuckDBPyConnection, batch: pa.RecordBatch) -> int:
    names = ["system_id", "kind", "id", "event_day", "content_hash", "snapshot_at"]
    connection.register("keyed", pa.table({name: batch[name] for name in names}))
    return _one(connection, f"SELECT sum(hash({', '.join(names)})::HUGEINT) FROM keyed")


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(total,)] = connection.execute(query).fetchall()
    return int(total or 0)

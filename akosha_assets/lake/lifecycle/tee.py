"""Digests of rows: count, keys and checksum in any order and batches. Compared before rows are removed."""

from collections.abc import Iterable, Iterator

import duckdb
import pyarrow as pa


class Digest:
    """Sums of 64-bit hashes over rows of a tier table, equal for the same rows in any order.

    `keys` covers the columns that a row has in every form, `content` all columns of one form. `connection` hashes.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.rows = 0
        self.rows_without_vector = 0
        self.keys = 0
        self.content = 0

    def tee(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the batches unchanged and adds them to the digest."""
        for batch in batches:
            self.add_keys(batch)
            self.add_content(batch)
            yield batch

    def add_keys(self, batch: pa.RecordBatch) -> None:
        """Adds the count and the keys of the rows."""
        names = ["system_id", "kind", "id", "event_day", "content_hash", "snapshot_at"]
        self.rows += batch.num_rows
        self._connection.register("keyed", pa.table({name: batch[name] for name in names}))
        self.keys += _one(self._connection, f"SELECT sum(hash({', '.join(names)})::HUGEINT) FROM keyed")  # noqa: S608

    def add_content(self, batch: pa.RecordBatch) -> None:
        """Adds the checksum of the rows; `add_keys` counts them."""
        self.rows_without_vector += batch["space"].null_count
        self._connection.register("batch", pa.table(batch))
        self.content += _one(self._connection, "SELECT sum(hash(batch)::HUGEINT) FROM batch")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.rows, self.keys, self.content) == (
            other.rows,
            other.keys,
            other.content,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.rows} rows, keys {self.keys:x}, content {self.content:x}"


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(total,)] = connection.execute(query).fetchall()
    return int(total or 0)

"""Rows, bytes and files of a table, from its log alone. `days.py` has the sizes of single days."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from akosha_assets.lake.catalog import Lake


@dataclass(frozen=True)
class TableSize:
    """The size of a table at `version`. A table that does not exist has version -1 and no rows."""

    address: str
    version: int
    rows: int
    stored_bytes: int
    files: int


def table_size(lake: Lake, address: str, connection: duckdb.DuckDBPyConnection) -> TableSize:
    """Rows, bytes and files of the table; `connection` computes the sums."""
    table = lake.open(address)
    if table is None:
        return TableSize(address, -1, 0, 0, 0)
    connection.register("files", pa.table(table.get_add_actions(flatten=True)))
    try:
        sums = connection.execute(
            "SELECT coalesce(sum(num_records), 0), coalesce(sum(size_bytes), 0), count(*) FROM files"
        ).fetchall()[0]
    finally:
        connection.unregister("files")
    return TableSize(address, table.version(), int(sums[0]), int(sums[1]), sums[2])

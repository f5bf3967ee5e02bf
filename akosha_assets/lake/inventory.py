"""How much each table holds, from its log alone: rows, bytes and files. Reads no data file.

Sizes of single days are in `days.py`. Who shows the numbers (assets, status) is elsewhere.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from akosha_assets.lake.catalog import Lake


@dataclass(frozen=True)
class TableSize:
    """What a table holds at `version`. A table nobody wrote to has version -1 and no rows."""

    address: str
    version: int
    rows: int
    stored_bytes: int
    files: int


def table_size(lake: Lake, address: str, connection: duckdb.DuckDBPyConnection) -> TableSize:
    """Rows, bytes and files of the whole table; `connection` does the sums."""
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

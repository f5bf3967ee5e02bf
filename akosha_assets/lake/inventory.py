"""How much each table holds, from its log alone: rows, bytes and files, per partition where there is one.

Reads no data file. Who shows the numbers (assets, status) is elsewhere.
"""

from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from akosha_assets.lake.catalog import Lake

FILES = pa.schema([pa.field("path", pa.string()), pa.field("size_bytes", pa.int64()), pa.field("num_records", pa.int64())])


@dataclass(frozen=True)
class TableSize:
    """What a table holds at `version`. A table nobody wrote to has version -1 and no rows."""

    address: str
    version: int
    rows: int
    size_bytes: int
    files: int


@dataclass(frozen=True)
class DaySize:
    """What one partition holds."""

    day: date
    rows: int
    size_bytes: int
    files: int


def files(lake: Lake, address: str) -> tuple[int, pa.Table]:
    """The table's version and one row per live file: path, size_bytes, num_records, and event_day where partitioned."""
    partitioned = bool(lake.spec(address).partition_by)
    schema = FILES.append(pa.field("event_day", pa.date32())) if partitioned else FILES
    table = lake.open(address)
    if table is None:
        return -1, schema.empty_table()
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = {"path": "path", "size_bytes": "size_bytes", "num_records": "num_records", "event_day": "partition.event_day"}
    return table.version(), pa.table([actions[columns[name]].cast(schema.field(name).type) for name in schema.names], schema=schema)


def table_size(lake: Lake, address: str, connection: duckdb.DuckDBPyConnection) -> TableSize:
    """Rows, bytes and files of the whole table; `connection` does the sums."""
    version, actions = files(lake, address)
    rows, size_bytes, count = _sums(
        connection, actions, "SELECT coalesce(sum(num_records), 0), coalesce(sum(size_bytes), 0), count(*) FROM a"
    )[0]
    return TableSize(address, version, rows, size_bytes, count)


def day_sizes(lake: Lake, address: str, connection: duckdb.DuckDBPyConnection) -> dict[date, DaySize]:
    """Rows, bytes and files of each event day that holds any; `connection` does the sums."""
    _, actions = files(lake, address)
    query = "SELECT event_day, sum(num_records), sum(size_bytes), count(*) FROM a GROUP BY event_day ORDER BY event_day"
    return {row[0]: DaySize(*row) for row in _sums(connection, actions, query)}


def _sums(connection: duckdb.DuckDBPyConnection, actions: pa.Table, query: str) -> list[tuple]:
    connection.register("a", actions)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.unregister("a")

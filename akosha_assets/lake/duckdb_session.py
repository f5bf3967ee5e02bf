"""DuckDB connections for the lake's own rows: in memory, with times in UTC."""

from pathlib import Path

import duckdb

from akosha_assets.lake.quoting import literal


def connect(*, memory_mib: int | None = None, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A new connection. It uses at most `memory_mib` MiB, and the folder `spill` for what needs more."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    if memory_mib is not None:
        connection.execute(f"SET memory_limit='{memory_mib}MiB'")
    if spill is not None:
        connection.execute(f"SET temp_directory={literal(str(spill))}")
    return connection

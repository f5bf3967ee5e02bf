"""DuckDB connections with times in UTC; DuckDB's default is the time zone of the machine."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from akosha_assets.lake.quoting import literal


def connect(
    config: Mapping[str, str] | None = None, *, memory_mib: int | None = None, spill: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """Connects to a new database in memory.

    It uses at most `memory_mib` MiB, and the folder `spill` for what needs more. `config` has further settings.
    """
    limits = {} if memory_mib is None else {"memory_limit": f"{memory_mib}MiB"}
    connection = duckdb.connect(config={**(config or {}), **limits})
    connection.execute("SET TimeZone = 'UTC'")
    if spill is not None:
        connection.execute(f"SET temp_directory = {literal(str(spill))}")
    return connection

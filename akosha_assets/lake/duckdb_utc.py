"""DuckDB connections of this process. Times are UTC everywhere; DuckDB's default is the time zone of the machine."""

from collections.abc import Mapping

import duckdb


def connect_utc(config: Mapping[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to a new database in memory whose time zone is UTC."""
    connection = duckdb.connect(config=dict(config or {}))
    connection.execute("SET TimeZone = 'UTC'")
    return connection

"""Rows become database files: a filled copy of an empty Session-Buddy database, byte for byte a file that DuckDB wrote.

The empty databases are made from `reflection.sql` and `knowledge_graph.sql`. Rows come from `rows.py`.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import duckdb
import pyarrow as pa

from akosha_assets.fleet.rows import Row

Database = Literal["reflection", "knowledge_graph"]
DATABASES: tuple[Database, ...] = ("reflection", "knowledge_graph")

SHARED_MEMORY = Path("/dev/shm")

ARROW_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "INTEGER": pa.int32(),
    "FLOAT": pa.float32(),
    "BOOLEAN": pa.bool_(),
    "BLOB": pa.binary(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
    "VARCHAR[]": pa.list_(pa.string()),
    "FLOAT[384]": pa.list_(pa.float32(), 384),
}


class Renderer:
    """Makes database files, one after the other, with one DuckDB connection and a scratch folder of its own."""

    def __init__(self) -> None:
        # DuckDB syncs at every checkpoint; a folder in memory makes that free.
        self._folder = tempfile.TemporaryDirectory(prefix="akosha-fleet-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        self._scratch = Path(self._folder.name)
        self._connection = duckdb.connect(config={"threads": 1, "temp_directory": str(self._scratch)})
        self._empty: dict[Database, bytes] = {}
        self._columns: dict[str, pa.Schema] = {}
        for database in DATABASES:
            self._empty[database] = self._make_empty(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        self._folder.cleanup()

    def tables(self, database: Database) -> list[str]:
        """Names of the tables of `database`, those that others refer to first."""
        return [name.split(".", 1)[1] for name in self._columns if name.startswith(f"{database}.")]

    def render(self, database: Database, tables: Mapping[str, Sequence[Row]]) -> bytes:
        """The file of `database` with exactly these rows.

        Raises:
            ValueError: a table or column is named that Session-Buddy does not have.
        """
        if unknown := set(tables) - set(self.tables(database)):
            raise ValueError(f"{database} has no tables {sorted(unknown)}; it has {self.tables(database)}")
        path = self._scratch / f"{database}.duckdb"
        path.write_bytes(self._empty[database])
        self._connection.execute(f"ATTACH '{path}' AS made (RECOVERY_MODE NO_WAL_WRITES)")
        try:
            self._connection.execute("BEGIN")
            for name in self.tables(database):
                if rows := tables.get(name):
                    self._connection.register("arriving", self._arrow(database, name, rows))
                    self._connection.execute(f'INSERT INTO made."{name}" SELECT * FROM arriving')
            self._connection.execute("COMMIT")
            self._connection.execute("CHECKPOINT made")
        except duckdb.Error:
            self._connection.execute("ROLLBACK")
            raise
        finally:
            self._connection.execute("DETACH made")
        return path.read_bytes()

    def empty(self) -> bytes:
        """A database without any table, as a snapshot of a machine on its first day is."""
        path = self._scratch / "no-tables.duckdb"
        path.unlink(missing_ok=True)
        self._connection.execute(f"ATTACH '{path}' AS bare (STORAGE_VERSION 'v2.0.0')")
        self._connection.execute("CHECKPOINT bare")
        self._connection.execute("DETACH bare")
        return path.read_bytes()

    def _make_empty(self, database: Database) -> bytes:
        path = self._scratch / f"{database}.empty.duckdb"
        self._connection.execute(f"ATTACH '{path}' AS blank (STORAGE_VERSION 'v2.0.0')")
        self._connection.execute("USE blank")
        self._connection.execute((files("akosha_assets.fleet") / f"{database}.sql").read_text("utf-8"))
        described = self._connection.execute(
            "SELECT t.table_name, list(c.column_name ORDER BY c.column_index), list(c.data_type ORDER BY c.column_index) "
            "FROM duckdb_tables() t JOIN duckdb_columns() c USING (database_name, table_oid) "
            "WHERE t.database_name = 'blank' GROUP BY t.table_name, t.table_oid ORDER BY t.table_oid"
        ).fetchall()
        for table, names, types in described:
            self._columns[f"{database}.{table}"] = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in zip(names, types, strict=True)])
        self._connection.execute("USE memory")
        self._connection.execute("CHECKPOINT blank")
        self._connection.execute("DETACH blank")
        return path.read_bytes()

    def _arrow(self, database: Database, table: str, rows: Sequence[Row]) -> pa.Table:
        schema = self._columns[f"{database}.{table}"]
        given = _all_keys(rows)
        if unknown := given - set(schema.names):
            raise ValueError(f"{table} has no columns {sorted(unknown)}; it has {schema.names}")
        return pa.Table.from_arrays([_column(rows, field, field.name in given) for field in schema], schema=schema)


def _all_keys(rows: Iterable[Row]) -> set[str]:
    return set().union(*rows)


def _column(rows: Sequence[Row], field: pa.Field, given: bool) -> pa.Array:
    if not given:
        return pa.nulls(len(rows), field.type)
    values: list[Any] = [row.get(field.name) for row in rows]
    return pa.array(values, field.type)

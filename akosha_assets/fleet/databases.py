"""Renders rows as gzipped database files: DuckDB inserts them into a copy of an empty Session-Buddy database.

The empty databases are created from `reflection.sql` and `knowledge_graph.sql`. Rows come from `rows.py`.
"""

import mmap
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import duckdb
import pyarrow as pa
from isal import igzip

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
    """Renders database files one by one, with a DuckDB connection and a scratch folder of its own."""

    def __init__(self) -> None:
        # DuckDB calls fsync at every checkpoint, which costs nothing in a folder in memory.
        self._folder = tempfile.TemporaryDirectory(
            prefix="akosha-fleet-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        )
        self._scratch = Path(self._folder.name)
        self._connection = duckdb.connect(config={"threads": 1, "temp_directory": str(self._scratch)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._folder.cleanup()

    def render(self, database: Database, tables: Mapping[str, Sequence[Row]]) -> bytes:
        """The file of `database` with exactly these rows, gzipped.

        Raises:
            ValueError: Session-Buddy has no such table or column.
        """
        empty = blank(database)
        if unknown := set(tables) - set(empty.tables):
            raise ValueError(f"{database} has no tables {sorted(unknown)}; it has {sorted(empty.tables)}")
        path = self._scratch / f"{database}.duckdb"
        path.write_bytes(empty.data)
        if non_empty := [name for name in empty.tables if tables.get(name)]:
            # One registration for all tables: each costs as much as an insert.
            self._connection.register(
                "arriving",
                pa.table({name: _nested(_arrow(name, empty.tables[name], tables[name])) for name in non_empty}),
            )
            self._connection.execute(f"ATTACH '{path}' AS made (RECOVERY_MODE NO_WAL_WRITES)")
            try:
                self._insert(non_empty)
                self._connection.execute("CHECKPOINT made")
            finally:
                self._connection.execute("DETACH made")
        return _compressed(path)

    def _insert(self, names: Sequence[str]) -> None:
        self._connection.execute("BEGIN")
        try:
            for name in names:
                self._connection.execute(
                    f'INSERT INTO made."{name}" SELECT unnest(one) FROM (SELECT unnest("{name}") AS one FROM arriving)'  # noqa: S608
                )
        except duckdb.Error:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def empty(self) -> bytes:
        """A gzipped database without any table, as a machine uploads it on its first day."""
        path = self._scratch / "no-tables.duckdb"
        path.unlink(missing_ok=True)
        self._connection.execute(f"ATTACH '{path}' AS bare (STORAGE_VERSION 'v2.0.0')")
        self._connection.execute("CHECKPOINT bare")
        self._connection.execute("DETACH bare")
        return _compressed(path)


@dataclass(frozen=True, slots=True)
class Blank:
    """A database with all its tables and no rows, and the columns by table; referenced tables come first."""

    data: bytes
    tables: dict[str, pa.Schema]


@cache
def blank(database: Database) -> Blank:
    """The blank `database`, created once per process."""
    with tempfile.TemporaryDirectory(prefix="akosha-fleet-") as folder, duckdb.connect() as connection:
        path = Path(folder) / "blank.duckdb"
        connection.execute(f"ATTACH '{path}' AS blank (STORAGE_VERSION 'v2.0.0')")
        connection.execute("USE blank")
        connection.execute((files("akosha_assets.fleet") / f"{database}.sql").read_text("utf-8"))
        described = connection.execute(
            "SELECT t.table_name, list(c.column_name ORDER BY c.column_index), "
            "list(c.data_type ORDER BY c.column_index) "
            "FROM duckdb_tables() t JOIN duckdb_columns() c USING (database_name, table_oid) "
            "WHERE t.database_name = 'blank' GROUP BY t.table_name, t.table_oid ORDER BY t.table_oid"
        ).fetchall()
        connection.execute("USE memory")
        connection.execute("CHECKPOINT blank")
        connection.execute("DETACH blank")
        return Blank(
            path.read_bytes(),
            {
                table: pa.schema([(name, ARROW_TYPES[kind]) for name, kind in zip(names, types, strict=True)])
                for table, names, types in described
            },
        )


def _arrow(table: str, schema: pa.Schema, rows: Sequence[Row]) -> pa.Table:
    columns = _all_keys(rows)
    if unknown := columns - set(schema.names):
        raise ValueError(f"{table} has no columns {sorted(unknown)}; it has {schema.names}")
    return pa.Table.from_arrays([_column(rows, field, field.name in columns) for field in schema], schema=schema)


def _all_keys(rows: Iterable[Row]) -> set[str]:
    return set().union(*rows)


def _column(rows: Sequence[Row], field: pa.Field, is_filled: bool) -> pa.Array:
    if not is_filled:
        return pa.nulls(len(rows), field.type)
    values: list[Any] = [row.get(field.name) for row in rows]
    return pa.array(values, field.type)


def _nested(table: pa.Table) -> pa.Array:
    """All rows of `table` as an array with one list of structs."""
    rows = pa.StructArray.from_arrays([column.combine_chunks() for column in table.columns], fields=list(table.schema))
    return pa.ListArray.from_arrays([0, len(rows)], rows)


def _compressed(path: Path) -> bytes:
    # Mapped instead of read: most of the file is zeros, and copying them costs more than compressing them.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
        return igzip.compress(raw, compresslevel=1)

"""Opens an unpacked file by what its bytes say it is and lists its tables, each as something DuckDB can select from.

DuckDB files are attached read-only to the worker's hardened instance; SQLite files and `memories.json` are read into
Arrow and registered. Only base tables of the main schema count; a view in the place of a table is an attack.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.limits import Limits
from akosha_assets.lake.ingestion.other_formats import TABLES_MAX, check_width, json_tables, refuse_view, sqlite_tables
from akosha_assets.lake.ingestion.selects import Column, identifier, literal

_TABLES = """SELECT database_name, table_name, schema_name, estimated_size, column_count, CASE WHEN column_count <= ? THEN sql END
FROM duckdb_tables() WHERE database_name LIKE 'uploaded_%'"""
_COLUMNS = """SELECT table_catalog, table_name, column_name, data_type, is_generated FROM information_schema.columns
WHERE table_catalog LIKE 'uploaded_%' AND table_schema = 'main' ORDER BY table_catalog, table_name, ordinal_position"""
_VIEWS = "SELECT view_name FROM duckdb_views() WHERE database_name LIKE 'uploaded_%' AND NOT internal LIMIT 100"


@dataclass(frozen=True)
class Table:
    """A table that can be read: its name at the source, what to select from, about how many rows, its columns, its file."""

    name: str
    relation: str
    rows: int
    columns: tuple[Column, ...]
    file: int


@dataclass
class Opened:
    """The tables that have rows, and what was odd about the files."""

    tables: list[Table] = field(default_factory=list)
    flaws: dict[str, int] = field(default_factory=dict)


class Databases:
    """Opens the files of one upload after the other on `connection`; remembers the columns of schemas it has met."""

    SCHEMAS_KEPT = 256

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits):
        self._connection, self._limits = connection, limits
        self._schemas: dict[tuple[Any, ...], dict[tuple[str, str], tuple[Column, ...]]] = {}

    @contextmanager
    def opened(self, files: list[tuple[Path, str]]) -> Iterator[Opened]:
        """The tables of all files, readable inside the block. Raises: UploadRejected for what is no database or a hostile one."""
        opened = Opened()
        attached = False
        with ExitStack() as stack:
            for number, (path, name) in enumerate(files):
                with path.open("rb") as file:
                    head = file.read(4096)
                if head[8:12] == b"DUCK":
                    self._connection.execute(f"ATTACH {literal(str(path))} AS uploaded_{number} (READ_ONLY, TYPE duckdb)")
                    stack.callback(self._connection.execute, f"DETACH uploaded_{number}")
                    attached = True
                elif head.startswith(b"SQLite format 3\x00"):
                    self._register(sqlite_tables(path, self._limits), number, opened, stack)
                elif head.lstrip()[:1] == b"{":
                    self._register(json_tables(path, name), number, opened, stack)
                else:
                    found = head[:16].hex() or "an empty file"
                    raise UploadRejected("database_unreadable", f"{name}: neither DuckDB nor SQLite by its first bytes", sample=found)
            if attached:
                self._list(opened)
            yield opened

    def _list(self, opened: Opened) -> None:
        listed = self._connection.execute(_TABLES, [self._limits.max_columns]).fetchall()
        if len(listed) > TABLES_MAX:
            raise UploadRejected("too_many_tables", f"{len(listed)} tables; at most {TABLES_MAX} are read")
        views = [name for (name,) in self._connection.execute(_VIEWS).fetchall()]
        for name in views:
            refuse_view(name)
        if views:
            opened.flaws["view_ignored"] = len(views)
        if elsewhere := sum(1 for row in listed if row[2] != "main"):
            opened.flaws["table_outside_main"] = elsewhere
        listed = [row for row in listed if row[2] == "main"]
        for _, name, _, rows, columns, _ in listed:
            if rows:
                check_width(name, columns, self._limits)
        if any(row[3] for row in listed):
            columns_of = self._columns(tuple(sorted((row[0], row[1], row[5]) for row in listed)))
            for database, name, _, rows, *_ in listed:
                if rows:
                    relation = f"{database}.main.{identifier(name)}"
                    file = int(database.removeprefix("uploaded_"))
                    opened.tables.append(Table(name, relation, rows, columns_of.get((database, name), ()), file))

    def _columns(self, schema: tuple[Any, ...]) -> dict[tuple[str, str], tuple[Column, ...]]:
        if known := self._schemas.get(schema):
            return known
        columns_of: dict[tuple[str, str], list[Column]] = {}
        for database, table, column, data_type, generated in self._connection.execute(_COLUMNS).fetchall():
            if generated == "ALWAYS":
                raise UploadRejected("database_hostile", f"a column of table {table[:80]} is computed when it is read", sample=column[:200])
            columns_of.setdefault((database, table), []).append(Column(column, data_type))
        if len(self._schemas) >= self.SCHEMAS_KEPT:
            self._schemas.clear()
        self._schemas[schema] = {key: tuple(columns) for key, columns in columns_of.items()}
        return self._schemas[schema]

    def _register(self, tables: dict[str, pa.Table], file: int, opened: Opened, stack: ExitStack) -> None:
        for number, (name, table) in enumerate(tables.items()):
            check_width(name, table.num_columns, self._limits)
            if not table.num_rows:
                continue
            relation = f"registered_{file}_{number}"
            self._connection.register(relation, table)
            stack.callback(self._connection.unregister, relation)
            described = self._connection.execute(f"DESCRIBE {relation}").fetchall()
            columns = tuple(Column(row[0], row[1]) for row in described)
            opened.tables.append(Table(name, relation, table.num_rows, columns, file))

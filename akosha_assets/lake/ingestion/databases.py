"""Opens an unpacked file by what its bytes say it is and lists its tables, each as something DuckDB can select from.

DuckDB files are attached read-only to the worker's hardened instance; SQLite files and `memories.json` are read into
Arrow and registered. Only base tables of the main schema count; a view in the place of a table is an attack.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.differences import Hashed
from akosha_assets.lake.ingestion.limits import Limits
from akosha_assets.lake.ingestion.other_formats import TABLES_MAX, check_width, json_tables, refuse_view, sqlite_tables
from akosha_assets.lake.ingestion.selects import RESCUED, Column, Select, identifier, literal, select_modelled, select_rescued
from akosha_assets.lake.ingestion.source_tables import BOOKKEEPING, SOURCE_TABLES, SourceTable

_SPECS = {spec.name: spec for spec in SOURCE_TABLES}
_TABLES = """SELECT database_name, table_name, schema_name, estimated_size, column_count, CASE WHEN column_count <= {max_columns} THEN sql END
FROM duckdb_tables() WHERE database_name LIKE 'uploaded_%'"""
_VIEWS = """SELECT database_name, view_name, NULL, 0, 0, NULL FROM duckdb_views() WHERE database_name LIKE 'uploaded_%' AND NOT internal"""
_COLUMNS = """SELECT table_catalog, table_name, column_name, data_type, is_generated FROM information_schema.columns
WHERE table_catalog LIKE 'uploaded_%' AND table_schema = 'main' ORDER BY table_catalog, table_name, ordinal_position"""


@dataclass(frozen=True)
class Reading:
    """How a table of a known schema is read; `statement` is its query, parsed once."""

    name: str
    spec: SourceTable | None
    select: Select
    statement: Any
    hashed: Hashed

    @property
    def kind(self) -> str:
        return self.spec.kind if self.spec else RESCUED


@dataclass(frozen=True)
class Table:
    """A table that holds something: how it is read, about how many rows it has, which file it is in."""

    reading: Reading
    rows: int
    file: int


@dataclass
class Opened:
    """The tables that have rows, and what was odd about the files."""

    tables: list[Table] = field(default_factory=list)
    flaws: Counter[str] = field(default_factory=Counter)


class Databases:
    """Opens the files of one upload after the other on `connection`; remembers what it made of schemas it has met."""

    SCHEMAS_KEPT = 64

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits):
        self._connection, self._limits = connection, limits
        self._statements: dict[str, Any] = {}
        self._schemas: dict[tuple[Any, ...], dict[tuple[str, str], Reading]] = {}

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
                    self._connection.execute(self._parsed(f"ATTACH {literal(str(path))} AS uploaded_{number} (READ_ONLY, TYPE duckdb)"))
                    stack.callback(self._connection.execute, self._parsed(f"DETACH uploaded_{number}"))
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

    def _parsed(self, sql: str) -> Any:
        """The statement, parsed once: files lie under the same few names for every upload."""
        if sql not in self._statements:
            (self._statements[sql],) = self._connection.extract_statements(sql)
        return self._statements[sql]

    def _list(self, opened: Opened) -> None:
        listed = self._connection.execute(self._parsed(_TABLES.format(max_columns=self._limits.max_columns))).fetchall()
        listed += self._connection.execute(self._parsed(_VIEWS)).fetchall()
        if len(listed) > TABLES_MAX:
            raise UploadRejected("too_many_tables", f"{len(listed)} tables and views; at most {TABLES_MAX} are read")
        filled = []
        for database, name, schema, rows, columns, sql in listed:
            if schema is None:
                refuse_view(name)
                opened.flaws["view_ignored"] += 1
            elif schema != "main":
                opened.flaws["table_outside_main"] += 1
            elif rows and name.lower() in BOOKKEEPING:
                opened.flaws["bookkeeping_left_out"] += rows
            elif rows:
                check_width(name, columns, self._limits)
                filled.append((database, name, sql, rows))
        if filled:
            reading_of = self._readings(tuple(sorted(row[:3] for row in filled)))
            opened.tables += [
                Table(reading_of[database, name], rows, int(database.removeprefix("uploaded_"))) for database, name, _, rows in filled
            ]

    def _readings(self, schema: tuple[Any, ...]) -> dict[tuple[str, str], Reading]:
        if known := self._schemas.get(schema):
            return known
        columns_of: dict[tuple[str, str], list[Column]] = {}
        filled = {(database, name) for database, name, _ in schema}
        for database, table, column, data_type, generated in self._connection.execute(_COLUMNS).fetchall():
            if (database, table) not in filled:
                continue
            if generated == "ALWAYS":
                raise UploadRejected("database_hostile", f"a column of table {table[:80]} is computed when it is read", sample=column[:200])
            columns_of.setdefault((database, table), []).append(Column(column, data_type))
        if len(self._schemas) >= self.SCHEMAS_KEPT:
            self._schemas.clear()
        self._schemas[schema] = {
            (database, table): self._reading(table, f"{database}.main.{identifier(table)}", tuple(columns_of[database, table]))
            for database, table in filled
        }
        return self._schemas[schema]

    def _reading(self, name: str, relation: str, columns: tuple[Column, ...]) -> Reading:
        spec = _SPECS.get(name.lower())
        vectors = self._limits.vectors
        select = select_modelled(spec, relation, columns, vectors=vectors) if spec else select_rescued(name, relation, columns)
        (statement,) = self._connection.extract_statements(select.sql)
        return Reading(name, spec, select, statement, Hashed.of(spec, select.fields))

    def _register(self, tables: dict[str, pa.Table], file: int, opened: Opened, stack: ExitStack) -> None:
        for number, (name, table) in enumerate(tables.items()):
            check_width(name, table.num_columns, self._limits)
            if not table.num_rows:
                continue
            if name.lower() in BOOKKEEPING:
                opened.flaws["bookkeeping_left_out"] += table.num_rows
                continue
            relation = f"registered_{file}_{number}"
            self._connection.register(relation, table)
            stack.callback(self._connection.unregister, relation)
            described = self._connection.execute(f"DESCRIBE {relation}").fetchall()
            columns = tuple(Column(row[0], row[1]) for row in described)
            opened.tables.append(Table(self._reading(name, relation, columns), table.num_rows, file))

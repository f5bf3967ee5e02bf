"""Opens unpacked files and lists their tables as relations that DuckDB can select from.

The first bytes of a file decide its format. DuckDB files are attached read-only to the worker's hardened instance;
SQLite files and `memories.json` are read into Arrow and registered. Only base tables of the main schema are read; a
view in place of a table is an attack.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.change_detection import Hashed
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.queries import (
    RESCUED,
    Column,
    Field,
    Select,
    select_modelled,
    select_rescued,
)
from akosha_assets.lake.ingestion.source.sqlite_and_json import (
    TABLES_MAX,
    check_width,
    json_tables,
    refuse_view,
    sqlite_tables,
)
from akosha_assets.lake.ingestion.source.tables import BOOKKEEPING, SOURCE_TABLES, SourceTable
from akosha_assets.lake.lenient_json import begins_json
from akosha_assets.lake.quoting import identifier, literal

# First bytes of what is no database, for the message.
COMPRESSED = {
    b"\x1f\x8b": "gzip again",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a ZIP archive",
    b"\x78\x9c": "zlib without the header of gzip",
}
_SPECS = {spec.name: spec for spec in SOURCE_TABLES}
_TABLES = """SELECT database_name, table_name, schema_name, estimated_size, column_count,
    CASE WHEN column_count <= {max_columns} THEN sql END
FROM duckdb_tables() WHERE database_name LIKE 'uploaded_%'"""
_VIEWS = """SELECT database_name, view_name, NULL, 0, 0, NULL
FROM duckdb_views() WHERE database_name LIKE 'uploaded_%' AND NOT internal"""
_COLUMNS = """SELECT table_catalog, table_name, column_name, data_type, is_generated FROM information_schema.columns
WHERE table_catalog LIKE 'uploaded_%' AND table_schema = 'main' ORDER BY table_catalog, table_name, ordinal_position"""


@dataclass(frozen=True)
class File:
    """One unpacked file and the object it came from."""

    path: Path
    name: str
    key: str
    etag: str


@dataclass(frozen=True)
class Reading:
    """How a table is read. `statement`: its query, parsed once. Tables of one `shape` have the same columns."""

    name: str
    shape: int
    spec: SourceTable | None
    select: Select
    statement: Any
    hashed: Hashed

    @property
    def kind(self) -> str:
        return self.spec.kind if self.spec else RESCUED


@dataclass(frozen=True)
class Table:
    """A table that has rows: how it is read, its estimated rows, the number of its file."""

    reading: Reading
    rows: int
    file: int


@dataclass
class Opened:
    """The tables that have rows, and the flaws of each file by its number."""

    tables: list[Table] = field(default_factory=list)
    flaws: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


class Databases:
    """Opens the files of uploads on `connection`; caches how tables are read by the SQL that created them."""

    READINGS_CACHED = 4096

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits):
        self._connection, self._limits = connection, limits
        self._statements: dict[str, Any] = {}
        # By database, table and the SQL that created it.
        self._readings: dict[tuple[str, str, str], Reading] = {}
        self._shapes: dict[tuple[str, tuple[Field, ...]], int] = {}
        self._next_shape = count()

    @contextmanager
    def opened(self, files: list[File]) -> Iterator[Opened]:
        """Opens the files; their tables are readable inside the block.

        Raises: UploadRejected for a file that is hostile or not a database.
        """
        if len(self._readings) + len(self._shapes) > self.READINGS_CACHED:
            self._readings.clear()
            self._shapes.clear()
        opened = Opened()
        attached = False
        with ExitStack() as stack:
            for number, file in enumerate(files):
                with file.path.open("rb") as content:
                    head = content.read(4096)
                if head[8:12] == b"DUCK":
                    self._connection.execute(
                        self._parsed(f"ATTACH {literal(str(file.path))} AS uploaded_{number} (READ_ONLY, TYPE duckdb)")
                    )
                    stack.callback(self._connection.execute, self._parsed(f"DETACH uploaded_{number}"))
                    attached = True
                elif head.startswith(b"SQLite format 3\x00"):
                    tables, flaws = sqlite_tables(file.path, self._limits)
                    opened.flaws[number].update(flaws)
                    self._register(tables, number, opened, stack)
                elif begins_json(head):
                    tables, flaws = json_tables(file.path, file.name)
                    opened.flaws[number].update(flaws)
                    self._register(tables, number, opened, stack)
                else:
                    found = head[:16].hex() or "an empty file"
                    inside = next((form for magic, form in COMPRESSED.items() if head.startswith(magic)), "")
                    raise UploadRejected(
                        "database_unreadable",
                        f"{file.name}: neither DuckDB nor SQLite by its first bytes"
                        + (f", but {inside}; expected a database, raw or compressed with gzip once" if inside else ""),
                        sample=found,
                    )
            if attached:
                self._list(opened)
            yield opened

    def is_clean(self) -> bool:
        """Whether no uploaded file is attached and queries still run; some DuckDB errors break a connection."""
        try:
            attached = self._connection.execute(
                "SELECT count(*) FROM duckdb_databases() WHERE database_name LIKE 'uploaded_%'"
            ).fetchone()
        except duckdb.Error:
            return False
        return attached == (0,)

    def _parsed(self, sql: str) -> Any:
        """Returns the parsed statement from a cache: every upload uses the same few file names."""
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
            file = int(database.removeprefix("uploaded_"))
            if schema is None:
                refuse_view(name)
                opened.flaws[file][Flaw.VIEW_IGNORED] += 1
            elif schema != "main":
                opened.flaws[file][Flaw.TABLE_OUTSIDE_MAIN] += 1
            elif rows and name.lower() in BOOKKEEPING:
                opened.flaws[file][Flaw.BOOKKEEPING_LEFT_OUT] += rows
            elif rows:
                check_width(name, columns, self._limits)
                filled.append(((database, name, sql), rows, file))
        self._add_readings([key for key, _, _ in filled if key not in self._readings])
        opened.tables += [Table(self._readings[key], rows, file) for key, rows, file in filled]

    def _add_readings(self, new: list[tuple[str, str, str]]) -> None:
        """Caches how the tables of `new` (database, table, SQL that created it) are read."""
        if not new:
            return
        columns_of: dict[tuple[str, str], list[Column]] = {(database, name): [] for database, name, _ in new}
        for database, table, column, data_type, generated in self._connection.execute(_COLUMNS).fetchall():
            if (database, table) not in columns_of:
                continue
            if generated == "ALWAYS":
                raise UploadRejected(
                    "database_hostile",
                    f"table {table[:80]} has a generated column",
                    sample=column[:200],
                )
            columns_of[database, table].append(Column(column, data_type))
        for database, table, sql in new:
            relation = f"{database}.main.{identifier(table)}"
            self._readings[database, table, sql] = self._reading(table, relation, tuple(columns_of[database, table]))

    def _reading(self, name: str, relation: str, columns: tuple[Column, ...]) -> Reading:
        spec = _SPECS.get(name.lower())
        vectors = self._limits.vectors
        select = (
            select_modelled(spec, relation, columns, vectors=vectors)
            if spec
            else select_rescued(name, relation, columns)
        )
        (statement,) = self._connection.extract_statements(select.sql)
        if (shape := self._shapes.get((name, select.fields))) is None:
            shape = self._shapes[name, select.fields] = next(self._next_shape)
        return Reading(name, shape, spec, select, statement, Hashed.of(spec, select.fields))

    def _register(self, tables: dict[str, pa.Table], file: int, opened: Opened, stack: ExitStack) -> None:
        for number, (name, table) in enumerate(tables.items()):
            check_width(name, table.num_columns, self._limits)
            if not table.num_rows:
                continue
            if name.lower() in BOOKKEEPING:
                opened.flaws[file][Flaw.BOOKKEEPING_LEFT_OUT] += table.num_rows
                continue
            relation = f"registered_{file}_{number}"
            self._connection.register(relation, table)
            stack.callback(self._connection.unregister, relation)
            described = self._connection.execute(f"DESCRIBE {relation}").fetchall()
            columns = tuple(Column(row[0], row[1]) for row in described)
            opened.tables.append(Table(self._reading(name, relation, columns), table.num_rows, file))

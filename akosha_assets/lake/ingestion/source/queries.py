"""Builds the SELECT that reads one source table, with the role of each selected column.

Missing columns are not selected; unknown columns are selected for `_rescued`. SQL casts only types that Arrow does not
support: planning an expression for every upload costs more than computing it afterwards. All uploaded names are quoted
here. Nothing is executed here.
"""

from dataclasses import dataclass
from enum import Enum

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.source.tables import RESCUED_KEYS, SourceTable
from akosha_assets.lake.quoting import identifier, literal

TEXTS = frozenset(
    {
        *(
            "text",
            "project",
            "namespace",
            "category",
            "subcategory",
            "memory_tier",
            "insight_type",
            "source_type",
            "session_id",
        ),
        *(
            "user_id",
            "name",
            "entity_type",
            "memory_id",
            "properties",
            "from_id",
            "to_id",
            "relation_type",
            "link_type",
            "link_origin",
        ),
        *("repo_path", "commit_hash", "graph", "memory_source_type", "source_ref", "model"),
    }
)
FLOATS = frozenset({"importance", "confidence", "strength", "evidence"})
INTEGERS = frozenset({"depth", "nodes_count"})
LISTS = frozenset({"tags", "observations"})

RESCUED = "rescued"

_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)$"
_INTEGRAL = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_NUMBERS = (
    *_INTEGRAL,
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "HUGEINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)
# Text of an epoch number, from the year 1973 on in seconds: shorter numbers may be anything.
_EPOCH_NUMBER = r"\d{9,19}(\.\d+)?"
_PLAIN = (*_INTEGRAL, "FLOAT", "DOUBLE", "BOOLEAN", "TIMESTAMP")
_WITH_ZONE = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ", "TIMESTAMP_NS WITH TIME ZONE", "TIMESTAMPTZ_NS")


@dataclass(frozen=True)
class Column:
    """A column of the source with DuckDB's name of its type."""

    name: str
    type: str

    @property
    def sql(self) -> str:
        return identifier(self.name)

    @property
    def is_nested(self) -> bool:
        return self.type.endswith("]") or self.type.startswith(("STRUCT", "MAP", "UNION", "VARIANT"))

    @property
    def is_text(self) -> bool:
        return self.type in ("VARCHAR", "JSON")


class Role(Enum):
    """The use of a selected column."""

    COLUMN = "column of our table"
    LOCAL = "naive time"
    UTC = "time with a zone"
    ATTRIBUTE = "member of attributes"
    UNKNOWN = "member of _rescued"
    VECTOR = "uploaded vector"
    HAS_VECTOR = "whether there is an uploaded vector"


@dataclass(frozen=True)
class Field:
    """A selected column. `name`: of our column for COLUMN, else of the source. `type`: DuckDB's, after casts.

    `is_json`: the text is a JSON value. `is_list_text`: the text is a list (`list_texts.py`).
    """

    role: Role
    name: str
    type: str = "VARCHAR"
    is_json: bool = False
    is_list_text: bool = False


@dataclass(frozen=True)
class Select:
    """A query and its fields in order; the first is the id."""

    sql: str
    fields: tuple[Field, ...]


def select_modelled(table: SourceTable, relation: str, columns: tuple[Column, ...], *, vectors: bool) -> Select:
    """Returns the query for a table of SOURCE_TABLES.

    Raises: UploadRejected if a needed column is missing or has a type that cannot be converted.
    """
    have = {column.name.lower(): column for column in columns}
    for name in table.needed:
        column = have.get(name)
        if column is None or column.is_nested or column.type == "BLOB":
            found = f"has the type {column.type[:80]}" if column else "is missing"
            raise UploadRejected(
                "column_type_unexpected", f"column {name} of table {table.name} {found}; expected VARCHAR"
            )

    parts = [(_text(have["id"]), Field(Role.COLUMN, "id"))]
    used = {"id", *table.dropped}
    for ours, theirs in table.columns.items():
        if theirs in have and (expression := _mapped(ours, have[theirs])):
            parts.append((expression, _field(ours, have[theirs])))
            used.add(theirs)
    for name in table.occurred:
        if name in have:
            parts += _times(have[name], is_utc=table.occurred_is_utc)
            used.add(name)
    for name in table.attributes:
        if name in have:
            parts.append(_member(have[name], Role.ATTRIBUTE))
            used.add(name)
    if "embedding" in have and "embedding" not in used:
        parts.append(_vector(have["embedding"], wanted=vectors))
        used.add("embedding")
    unknown = sorted((column for column in columns if column.name.lower() not in used), key=lambda column: column.name)
    return _select(parts + [_member(column, Role.UNKNOWN) for column in unknown], relation)


def select_rescued(name: str, relation: str, columns: tuple[Column, ...]) -> Select:
    """Returns the query for any other table: a stable key, or '' if it has none, and every column for the JSON."""
    have = {column.name.lower(): column for column in columns}
    keys = [_text(have[key]) for key in RESCUED_KEYS.get(name, ("id",)) if key in have]
    key = f"concat_ws('/', {', '.join(keys)})" if keys else "''"
    return _select([(key, Field(Role.COLUMN, "id")), *(_member(column, Role.UNKNOWN) for column in columns)], relation)


def _select(parts: list[tuple[str, Field]], relation: str) -> Select:
    listed = ", ".join(f"{expression} AS c{place}" for place, (expression, _) in enumerate(parts))
    return Select(f"SELECT {listed} FROM {relation}", tuple(field for _, field in parts))  # noqa: S608


def _field(ours: str, column: Column) -> Field:
    if ours in LISTS and column.type != "VARCHAR[]":
        return Field(Role.COLUMN, ours, is_list_text=True)
    return Field(Role.COLUMN, ours, _type_of(ours))


def _type_of(ours: str) -> str:
    kinds = {"FLOAT": FLOATS, "INTEGER": INTEGERS, "VARCHAR[]": LISTS, "VARCHAR": TEXTS}
    return next((name for name, columns in kinds.items() if ours in columns), "BLOB")


def _text(column: Column) -> str:
    if column.is_text:
        return column.sql
    return f"CAST({'to_json(' + column.sql + ')' if column.is_nested else column.sql} AS VARCHAR)"


def _member(column: Column, role: Role) -> tuple[str, Field]:
    if column.is_text:
        named_json = column.name.lower().endswith(("metadata", "properties", "json", "_data", "entries", "sources"))
        return column.sql, Field(role, column.name, is_json=column.type == "JSON" or named_json)
    if column.type in _PLAIN:
        return column.sql, Field(role, column.name, column.type)
    return _text(column), Field(role, column.name, is_json=column.is_nested)


def _mapped(ours: str, column: Column) -> str | None:
    if ours in TEXTS:
        return _text(column)
    if ours in FLOATS or ours in INTEGERS:
        wanted = "FLOAT" if ours in FLOATS else "INTEGER"
        return column.sql if column.type == wanted else f"TRY_CAST({column.sql} AS {wanted})"
    if ours in LISTS:
        return column.sql if column.type == "VARCHAR[]" else None if column.type == "BLOB" else _text(column)
    return column.sql if column.type == "BLOB" else None  # fingerprint


def _times(column: Column, *, is_utc: bool) -> list[tuple[str, Field]]:
    """Returns the expressions that read a time: naive, and in UTC if it has a zone or is a number since 1970."""
    naive = Role.UTC if is_utc else Role.LOCAL
    if column.type in _WITH_ZONE:
        return [(column.sql, Field(Role.UTC, column.name, column.type))]
    if column.type == "TIMESTAMP":
        return [(column.sql, Field(naive, column.name, "TIMESTAMP"))]
    if column.type.startswith("TIMESTAMP") or column.type == "DATE":
        return [(f"TRY_CAST({column.sql} AS TIMESTAMP)", Field(naive, column.name, "TIMESTAMP"))]
    if column.is_text:
        text = _text(column)
        zoned = f"regexp_matches({text}, {literal(_ZONE)})"
        # One expression for both: the hash of a row covers one time of each role.
        return [
            (
                f"CASE WHEN {zoned} THEN TRY_CAST({text} AS TIMESTAMPTZ) "
                f"WHEN regexp_full_match({text}, {literal(_EPOCH_NUMBER)}) "
                f"THEN to_timestamp({_epoch_microseconds(text)} / 1e6) END",
                Field(Role.UTC, column.name, "TIMESTAMPTZ"),
            ),
            (f"CASE WHEN NOT {zoned} THEN TRY_CAST({text} AS TIMESTAMP) END", Field(naive, column.name, "TIMESTAMP")),
        ]
    if column.type.startswith(_NUMBERS) and not column.is_nested:
        microseconds = f"CAST({_epoch_microseconds(column.sql)} AS BIGINT)"
        return [(f"make_timestamp({microseconds})", Field(Role.UTC, column.name, "TIMESTAMP"))]
    return []


def _epoch_microseconds(expression: str) -> str:
    """Returns an expression for DOUBLE microseconds since 1970, from a number in s, ms, µs or ns.

    The magnitude shows the unit: 1e11 seconds are the year 5138, and 1e11 milliseconds are 1973. NULL for larger ones.
    """
    number = f"TRY_CAST({expression} AS DOUBLE)"
    return (
        f"CASE WHEN abs({number}) < 1e11 THEN {number} * 1e6 WHEN abs({number}) < 1e14 THEN {number} * 1e3 "
        f"WHEN abs({number}) < 1e17 THEN {number} WHEN abs({number}) < 1e19 THEN {number} / 1e3 END"
    )


def _vector(column: Column, *, wanted: bool) -> tuple[str, Field]:
    is_list = column.type.endswith("]") and column.type.startswith(_NUMBERS) and column.type.count("[") == 1
    if wanted and is_list:
        return column.sql if column.type.startswith("FLOAT[") else f"CAST({column.sql} AS FLOAT[])", Field(
            Role.VECTOR, column.name, "FLOAT[]"
        )
    return f"({column.sql} IS NOT NULL)", Field(Role.HAS_VECTOR, column.name, "BOOLEAN")

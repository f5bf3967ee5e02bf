"""SQL that reads one source table by column name, with every column turned into the type that `rows.py` expects.

Columns that a table lacks are simply not selected; columns that nothing names end as JSON in `_rescued`. Text made from
uploaded names is always quoted here. Nothing is executed here.
"""

import json
from dataclasses import dataclass

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.source_tables import RESCUED_KEYS, SourceTable

LOCAL, UTC, VECTOR, HAS_VECTOR = "@local", "@utc", "@vector", "@has_vector"

TEXTS = frozenset(
    [
        "text",
        "project",
        "namespace",
        "category",
        "subcategory",
        "memory_tier",
        "insight_type",
        "source_type",
        "session_id",
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
        "repo_path",
        "commit_hash",
        "graph",
        "memory_source_type",
        "source_ref",
        "model",
    ]
)
FLOATS = frozenset({"importance", "confidence", "strength", "evidence"})
INTEGERS = frozenset({"depth", "nodes_count"})
LISTS = frozenset({"tags", "observations"})

_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)$"
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL")


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


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def select_memories(table: SourceTable, relation: str, columns: list[Column], *, vectors: bool) -> str:
    """The query for a table that is modelled. Raises: UploadRejected where a needed column cannot be read."""
    have = {column.name.lower(): column for column in columns}
    for name in table.needed:
        column = have.get(name)
        if column is None or column.is_nested or column.type == "BLOB":
            found = f"has the type {column.type[:80]}" if column else "is missing"
            raise UploadRejected("column_type_unexpected", f"column {name} of table {table.name} {found}; expected VARCHAR")

    used = {"id", *table.dropped}
    parts = [f"{_text(have['id'])} AS id"]
    for ours, theirs in table.columns.items():
        used.add(theirs)
        if theirs in have and (expression := _mapped(ours, have[theirs])):
            parts.append(f"{expression} AS {ours}")
        elif theirs in have:
            used.discard(theirs)
    if table.session_in and table.session_in in have:
        session = f"json_extract_string({_valid_json(have[table.session_in])}, '$.source_session')"
        own = f"nullif({_text(have['session_id'])}, '')" if "session_id" in have else "NULL"
        parts = [part for part in parts if not part.endswith(" AS session_id")] + [f"coalesce({own}, {session}) AS session_id"]

    used.update(table.occurred)
    parts += _times(table, have)
    if attributes := [have[name] for name in table.attributes if name in have]:
        parts.append(f"{_json_object(attributes)} AS attributes")
        used.update(table.attributes)
    if "embedding" in have and "embedding" not in used:
        used.add("embedding")
        parts.append(_vector(have["embedding"]) if vectors else f"({have['embedding'].sql} IS NOT NULL) AS {identifier(HAS_VECTOR)}")
    if unknown := sorted((column for column in columns if column.name.lower() not in used), key=lambda column: column.name):
        parts.append(f"{_json_object(unknown)} AS _rescued")
    return f"SELECT {', '.join(parts)} FROM {relation}"


def select_rescued(name: str, relation: str, columns: list[Column]) -> str:
    """The query for any other table: its rows as JSON, each under the table's name and a key that stays the same."""
    have = {column.name.lower(): column for column in columns}
    keys = [have[key] for key in RESCUED_KEYS.get(name, ("id",)) if key in have]
    row = f"coalesce({_json_object(columns)}, '{{}}')"
    key = f"concat_ws('/', {', '.join(_text(column) for column in keys)})" if keys else f"md5({row})"
    return f"SELECT concat({literal(name + '/')}, {key}) AS id, {row} AS row FROM {relation}"


def _text(column: Column) -> str:
    if column.type == "VARCHAR":
        return column.sql
    return f"to_json({column.sql})::VARCHAR" if column.is_nested else f"CAST({column.sql} AS VARCHAR)"


def _valid_json(column: Column) -> str:
    text = _text(column)
    return f"CASE WHEN json_valid({text}) THEN {text} END"


def _json_value(column: Column) -> str:
    if column.is_text and column.name.lower().endswith(("metadata", "properties", "json", "_data", "entries", "sources")):
        text = _text(column)
        return f"CASE WHEN json_valid({text}) THEN {text} ELSE to_json({text})::VARCHAR END"
    if column.type == "JSON":
        return _text(column)
    return f"to_json({column.sql})::VARCHAR"


def _json_object(columns: list[Column]) -> str:
    # Columns that are null are left out, so a column added by a later release changes no row until it is filled.
    members = ", ".join(f"{literal(json.dumps(column.name) + ':')} || nullif({_json_value(column)}, 'null')" for column in columns)
    return f"nullif('{{' || concat_ws(',', {members}) || '}}', '{{}}')"


def _mapped(ours: str, column: Column) -> str | None:
    if ours in TEXTS:
        return _text(column)
    if ours in FLOATS or ours in INTEGERS:
        wanted = "FLOAT" if ours in FLOATS else "INTEGER"
        return column.sql if column.type == wanted else f"TRY_CAST({column.sql} AS {wanted})"
    if ours in LISTS:
        if column.type == "VARCHAR[]":
            return column.sql
        return f"TRY_CAST(CAST({_valid_json(column)} AS JSON) AS VARCHAR[])" if column.is_text else None
    return column.sql if column.type == "BLOB" else None  # fingerprint


def _times(table: SourceTable, have: dict[str, Column]) -> list[str]:
    local: list[str] = []
    utc: list[str] = []
    for name in table.occurred:
        column = have.get(name)
        if column is None:
            continue
        if column.type == "TIMESTAMP WITH TIME ZONE" or column.type.startswith("TIMESTAMP_TZ"):
            utc.append(column.sql)
        elif column.type.startswith("TIMESTAMP") or column.type == "DATE":
            naive = column.sql if column.type == "TIMESTAMP" else f"TRY_CAST({column.sql} AS TIMESTAMP)"
            (utc if table.occurred_is_utc else local).append(naive)
        elif column.is_text:
            zoned = f"regexp_matches({_text(column)}, {literal(_ZONE)})"
            utc.append(f"CASE WHEN {zoned} THEN TRY_CAST({_text(column)} AS TIMESTAMPTZ) END")
            naive = f"CASE WHEN NOT {zoned} THEN TRY_CAST({_text(column)} AS TIMESTAMP) END"
            (utc if table.occurred_is_utc else local).append(naive)
        elif column.type.startswith(_NUMBERS):
            utc.append(f"TRY(make_timestamp(CAST({column.sql} * 1000000 AS BIGINT)))")
    if table.utc_in and table.utc_in in have:
        stamp = f"json_extract_string({_valid_json(have[table.utc_in])}, '$.timestamp')"
        utc.append(f"CASE WHEN regexp_matches({stamp}, {literal(_ZONE)}) THEN TRY_CAST({stamp} AS TIMESTAMPTZ) END")
    parts = []
    if local:
        parts.append(f"{_first(local)} AS {identifier(LOCAL)}")
    if utc:
        parts.append(f"{_first([f'CAST({one} AS TIMESTAMPTZ)' for one in utc] if len(utc) > 1 else utc)} AS {identifier(UTC)}")
    return parts


def _first(expressions: list[str]) -> str:
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


def _vector(column: Column) -> str:
    if column.type.startswith("FLOAT[") and column.type.count("[") == 1:
        return f"{column.sql} AS {identifier(VECTOR)}"
    if column.type.endswith("]") and column.type.startswith(_NUMBERS) and column.type.count("[") == 1:
        return f"CAST({column.sql} AS FLOAT[]) AS {identifier(VECTOR)}"
    return f"({column.sql} IS NOT NULL) AS {identifier(HAS_VECTOR)}"

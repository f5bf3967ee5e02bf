"""Reads SQLite databases and the `memories.json` of the older layout into Arrow tables by name.

SQLite runs with its own limits and a deadline; only base tables are read, and no generated column.
"""

import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from akosha_assets.lake import lenient_json
from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.tables import SOURCE_TABLES
from akosha_assets.lake.quoting import identifier

TABLES_MAX = 1000
SQLITE_BATCH_ROWS = 10_000
# Virtual machine steps between two checks of the deadline.
SQLITE_STEPS = 10_000

_MODELLED = frozenset(table.name for table in SOURCE_TABLES)


def refuse_view(name: str) -> None:
    """Raises: UploadRejected if a view has the name of a table that is read."""
    if name.lower() in _MODELLED:
        raise UploadRejected("database_hostile", f"{name} is a view; expected a table", sample=name)


def check_width(name: str, columns: int, limits: Limits) -> None:
    """Raises: UploadRejected for a table with too many columns."""
    if columns > limits.max_columns:
        raise UploadRejected(
            "too_many_columns", f"table {name[:80]} has {columns} columns; at most {limits.max_columns} are read"
        )


def sqlite_tables(path: Path, limits: Limits) -> tuple[dict[str, pa.Table], Counter[str]]:
    """Returns the base tables of a SQLite file by name, and its flaws.

    Raises: UploadRejected for a hostile or too large file.
    """
    flaws: Counter[str] = Counter()
    source = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        source.text_factory = lambda raw: _decode(raw, flaws)
        source.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.max_field_bytes + 1024)
        source.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        source.setlimit(sqlite3.SQLITE_LIMIT_VDBE_OP, 100_000)
        deadline = time.monotonic() + limits.seconds
        source.set_progress_handler(lambda: time.monotonic() > deadline, SQLITE_STEPS)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
            source.execute(f"PRAGMA {pragma}")
        listed = source.execute(
            "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        if len(listed) > TABLES_MAX:
            raise UploadRejected("too_many_tables", f"{len(listed)} tables; at most {TABLES_MAX} are read")
        tables, rows_left = {}, limits.max_rows
        for name, kind in listed:
            if kind == "view":
                refuse_view(name)
                continue
            tables[name] = _sqlite_table(source, name, limits, rows_left)
            rows_left -= tables[name].num_rows
        return tables, flaws
    finally:
        source.close()


def _sqlite_table(source: sqlite3.Connection, name: str, limits: Limits, rows_left: int) -> pa.Table:
    columns = source.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", [name]).fetchall()
    if any(hidden in (2, 3) for _, hidden in columns):
        raise UploadRejected("database_hostile", f"table {name[:80]} has a generated column")
    names = [column for column, hidden in columns if not hidden]
    check_width(name, len(names), limits)
    cursor = source.execute(
        f"SELECT {', '.join(identifier(column) for column in names)} FROM {identifier(name)} LIMIT ?",  # noqa: S608
        [rows_left + 1],
    )
    batches = []
    while rows := cursor.fetchmany(SQLITE_BATCH_ROWS):
        rows_left -= len(rows)
        if rows_left < 0:
            raise UploadRejected("too_many_rows", f"more than {limits.max_rows} rows")
        batches.append(rows)
    values = [[row[place] for rows in batches for row in rows] for place in range(len(names))]
    return pa.table([_dynamic(column) for column in values], names=names)


def _decode(raw: bytes, flaws: Counter[str]) -> str:
    """The text in `raw`. Bytes that are not UTF-8 become U+FFFD and are counted."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        flaws[Flaw.TEXT_NOT_UTF8] += 1
        return raw.decode("utf-8", "replace")


def _dynamic(values: list[Any]) -> pa.Array:
    """Returns the values of a SQLite column, which may mix types, in the narrowest type that fits all of them."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array(values, pa.float64())
    if kinds == {bytes}:
        return pa.array(values, pa.binary())
    return pa.array(
        [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value if value is None else str(value)
            for value in values
        ],
        pa.string(),
    )


def json_tables(path: Path, name: str) -> tuple[dict[str, pa.Table], Counter[str]]:
    """The table `conversations` of a `memories.json`, and its flaws.

    An object with the list `conversations`, that list alone, or one conversation a line. Raises: UploadRejected for any
    other document.
    """
    flaws: Counter[str] = Counter()
    document, is_replaced = _load_document(path.read_bytes(), name)
    listed = document.get("conversations") if isinstance(document, dict) else document
    conversations = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or (listed and not conversations):
        raise UploadRejected(
            "database_unreadable", f"{name}: expected an object with a list of objects named conversations"
        )
    if is_replaced:
        flaws[Flaw.TEXT_NOT_UTF8] += 1
    if ignored := len(listed) - len(conversations):
        flaws[Flaw.ROW_NOT_OBJECT] += ignored
    if not conversations:
        return {}, flaws
    names = list(dict.fromkeys(key for row in conversations for key in row))
    columns = [_json_column(key, [row.get(key) for row in conversations]) for key in names]
    return {"conversations": pa.table(columns, names=names)}, flaws


def _load_document(data: bytes, name: str) -> tuple[Any, bool]:
    try:
        return lenient_json.load(data)
    except (ValueError, RecursionError) as error:
        try:
            documents, is_replaced = lenient_json.load_lines(data)
        except (ValueError, RecursionError):
            raise UploadRejected("database_unreadable", f"{name}: not JSON: {error}") from error
        return documents, is_replaced


def _json_column(name: str, values: list[Any]) -> pa.Array:
    if name == "embedding":
        return pa.array([_numbers(value) for value in values], pa.list_(pa.float32()))
    return pa.array(
        [value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values],
        pa.string(),
    )


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list):
        return None
    return [float(number) if isinstance(number, (int, float)) else float("nan") for number in value]

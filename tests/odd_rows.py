"""Rows of anything that the schemas allow, as hypothesis strategies: for databases of the source and for our tables."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from akosha_assets.fleet.databases import blank
from akosha_assets.lake.lifecycle_tables import COLD, WARM
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.table_spec import TableSpec

Row = dict[str, Any]

TODAY = datetime.now(UTC).date()
NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
# Few days, because each is a partition, which costs time.
DAYS = [TODAY, TODAY - timedelta(days=10), TODAY - timedelta(days=100)]
# A search for this word finds every row that has it.
MARKER = "quartzite"

# Texts that have broken some program.
PIECES = [
    "\0",
    "a\0b",
    "\u0301" * 40,
    "Z\u0351\u034a\u0363a\u0489" * 8,
    "\u202e\u2066right to left\u2069\u202c",
    "שלום עולם",
    "مرحبا",
    "日本語のテキスト",
    "한국어",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏳\ufe0f\u200d🌈",
    "\U0010ffff",
    "\U000e0001",
    "\uffff\ufffe",
    "\ufeff",
    "\u2028\u2029\x85\x0b\x0c",
    "\x1b[31mred\x1b]0;x\x07",
    "[bold]x[/]",
    "<script>alert(1)</script>",
    "'; DROP TABLE hot; --",
    '"phrase" +must -not prefix* field:value',
    "\\ud800",
    "ß ﬁ İ ı ſ K Å",
    "e\u0301 é",
    "camelCaseURLParser_snake-kebab.py:12",
    "x" * 300,
    "http://[::1]:80/%2e%2e/?a=b#c",
    "𝕬𝖐𝖔𝖘𝖍𝖆",
    "   \t\r\n ",
    "word " * 50,
    "[TRUNCATED]",
    "__SB64__" + base64.b64encode("half \U0001f600".encode("utf-16", "surrogatepass")).decode(),
]
ANY = st.characters(exclude_categories=["Cs"])
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES) | st.text(ANY, max_size=12), max_size=6).map(" ".join),
    st.lists(st.sampled_from(PIECES) | st.text(ANY, max_size=12), max_size=6).map("".join),
    st.text(ANY, max_size=60),
    st.just(""),
    st.tuples(st.sampled_from(PIECES) | st.text(ANY, min_size=1, max_size=3), st.sampled_from([100, 3000])).map(
        lambda pair: pair[0] * pair[1]
    ),
)
MARKED = st.tuples(TEXT, st.sampled_from(["{} %s", "%s {}", "{} %s {}"])).map(
    lambda pair: (pair[1] % MARKER).replace("{}", pair[0])
)
ID = st.one_of(
    st.text(ANY, min_size=1, max_size=20),
    st.sampled_from(PIECES).filter(lambda piece: 0 < len(piece.encode()) < 1000),
    st.sampled_from(
        [".", "..", "/", "a/b/../c", "%2F", "?", "#", "'", '"', " ", "\n", "é" * 512, "a" * 1024, "-", "*"]
    ),
)
LABEL = st.one_of(TEXT, st.sampled_from(["atlas-api", "facts", "", "default"]))
FLOAT = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan"), float("inf"), -float("inf")])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JSON_TEXT = st.one_of(
    JSON.map(json.dumps),
    st.sampled_from(
        [
            '{"a": "\\ud800"}',
            '{"a": "\\u0000"}',
            '{"a":' * 200 + "1" + "}" * 200,
            "[" * 500 + "]" * 500,
            '{"timestamp": "2026-11-20T08:00:00+00:00", "source_session": ["x"]}',
            '{"timestamp": 5, "source_session": 7}',
            '{"a": 1e999, "b": -0, "c": 123456789012345678901234567890}',
            '{"a": 1, "a": 2}',
        ]
    ),
)
ANY_JSON_TEXT = JSON_TEXT | TEXT
TAGS = st.one_of(
    st.lists(st.none() | LABEL, max_size=4),
    st.sampled_from([[], [None], [""], ["sql", None], ["t" * 5000], ["many"] * 2000]),
)
# Local times of a client, without a zone.
_TIMES = [
    *(NOON - timedelta(days=(TODAY - day).days, hours=1) for day in DAYS),
    *(datetime(year, 1, 1, tzinfo=UTC) for year in (1, 1900, 1970, 2100, 9999)),
]
LOCAL_TIME = st.sampled_from([at.replace(tzinfo=None) for at in _TIMES])
HALVES = st.one_of(
    st.sampled_from([b"", b"\0" * 768, b"\x00\x3c" * 384, b"\x00\x7e" * 384, b"\xff\x7b" * 384, b"\x00\x3c" * 16]),
    st.binary(max_size=40),
)


def _vector(random: Any) -> list[float]:
    return [random.uniform(-1, 1) for _ in range(384)]


VECTOR = st.one_of(
    st.randoms(use_true_random=False).map(_vector),
    st.sampled_from([[0.0] * 384, [float("nan")] * 384, [3e38] * 384, [1e-45] * 384, [float("inf")] * 384]),
)

_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "id": ID,
    "content": TEXT | MARKED,
    "source_type": st.sampled_from(["claude_code", "manual", "migration"]),
    # References that the source checks.
    "conversation_id": st.none(),
    "turn_parent_id": TEXT,
}
_OF_TYPE: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): LABEL,
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float32(): FLOAT,
    pa.bool_(): st.booleans(),
    pa.binary(): st.sampled_from([b"", b"\0" * 1024, bytes(range(256)) * 4]) | st.binary(max_size=40),
    pa.timestamp("us"): LOCAL_TIME,
    pa.list_(pa.string()): TAGS,
    pa.list_(pa.float32(), 384): VECTOR,
}
# Columns that the source declares NOT NULL, and those of type JSON.
NEEDED = {"id", "content", "category", "name", "entity_type"}
_JSON = {
    ("reflections_v2", "metadata"),
    ("conversations", "metadata"),
    ("reflections", "metadata"),
    ("kg_entities", "properties"),
    ("kg_entities", "metadata"),
}
DUCKDB_TABLES = ("conversations_v2", "reflections_v2", "conversations", "reflections", "kg_entities")


def _source_column(table: str, field: pa.Field) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any]
    if (table, field.name) in _JSON:
        # DuckDB refuses invalid JSON in these columns.
        values = JSON.map(json.dumps)
    elif field.name == "metadata":
        values = ANY_JSON_TEXT
    else:
        values = _SPECIAL.get(field.name, _OF_TYPE[field.type])
    return values if field.name in NEEDED else st.none() | values


def source_row(table: str) -> st.SearchStrategy[Row]:
    """A row of a table of Session-Buddy's databases with any value that DuckDB accepts in each column."""
    schema = blank("knowledge_graph" if table.startswith("kg_") else "reflection").tables[table]
    return st.fixed_dictionaries({field.name: _source_column(table, field) for field in schema})


def _distinct(rows: list[Row]) -> list[Row]:
    return list({row["id"]: row for row in rows}.values())


def source_tables(max_rows: int) -> st.SearchStrategy[dict[str, list[Row]]]:
    """Rows by table of an upload in DuckDB; ids are distinct in a table."""
    return st.fixed_dictionaries(
        {table: st.lists(source_row(table), max_size=max_rows).map(_distinct) for table in DUCKDB_TABLES}
    )


# SQLite holds any type in any column.
_LOOSE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20)
SQLITE_TIME = st.one_of(
    st.sampled_from(
        [
            "2026-11-20 08:00:00",
            "2026-11-20T08:00:00Z",
            "2026-11-20T08:00:00+05:30",
            "2026-13-45",
            "infinity",
            "0001-01-01",
            "294246-01-01",
            1.7e9,
            -1e300,
            1763625600,
            2**62,
        ]
    ),
    _LOOSE,
)
SQLITE_ROW = st.fixed_dictionaries(
    {
        "id": ID,
        "content": _LOOSE | MARKED,
        "project": _LOOSE,
        "timestamp": SQLITE_TIME,
        "tags": _LOOSE | TAGS.map(json.dumps) | JSON_TEXT,
        "importance_score": _LOOSE,
        "metadata": ANY_JSON_TEXT | st.none(),
        "embedding": _LOOSE | st.just(json.dumps([0.5] * 384)),
        "odd 'column\"": _LOOSE,
    }
)
SQLITE_ROWS = st.lists(SQLITE_ROW, max_size=6).map(_distinct)

JSON_ROW = st.fixed_dictionaries(
    {"id": ID, "content": TEXT | MARKED},
    optional={
        "embedding": JSON | st.just([0.5] * 384),
        "timestamp": SQLITE_TIME.filter(lambda value: not isinstance(value, bytes)),
        "metadata": JSON,
        "project": JSON,
        "source": JSON,
        "tags": JSON,
    },
)
JSON_ROWS = st.lists(JSON_ROW, max_size=6).map(_distinct)


US = 1_000_000
_TIMES_US = st.one_of(
    st.sampled_from([int(NOON.timestamp() * US) - days * 86_400 * US for days in (0, 10, 100)]),
    st.sampled_from([0, -1, -62_135_596_800 * US, 253_402_300_799 * US, -(2**63) + 1, -(2**63), 2**62, 2**63 - 1]),
)


_KEY_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "id": ID,
    "system_id": st.sampled_from(["laptop-ada", "laptop bob é\n", "\0", "..", "%2F?#"]),
    "kind": st.sampled_from(["conversation", "reflection"]),
    "event_day": st.sampled_from(DAYS),
}
_TABLE_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("text", "summary"), TEXT | MARKED),
    **dict.fromkeys(("attributes", "_rescued"), ANY_JSON_TEXT),
    **dict.fromkeys(("vector", "sketch"), HALVES),
    "space": st.sampled_from(["akosha/tiny", "", "other/space"]),
    "content_hash": st.integers(-(2**63), 2**63 - 1),
    "moved_at": st.just(int(NOON.timestamp() * US)),
}


def _table_column(field: pa.Field) -> st.SearchStrategy[Any]:
    """Values of a column of our tables: by its name, else by its type."""
    if field.name in _KEY_COLUMNS:
        return _KEY_COLUMNS[field.name]
    values = _TABLE_COLUMNS.get(field.name)
    if values is None:
        values = _values_of_type(field.type)
    return st.none() | values if field.nullable else values


def _values_of_type(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_timestamp(kind):
        return _TIMES_US
    return st.integers(0, 2**31) if kind == pa.int64() else _OF_TYPE[kind]


def table_rows(spec: TableSpec, max_rows: int) -> st.SearchStrategy[pa.Table]:
    """Rows as any writer may have stored them: only the schema restricts them."""
    row = st.fixed_dictionaries({field.name: _table_column(field) for field in spec.schema})
    return st.lists(row, max_size=max_rows).map(lambda rows: _table(rows, spec.schema))


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    distinct = {(row["system_id"], row["kind"], row["id"]): row for row in rows}.values()
    columns = []
    for field in schema:
        values = [row[field.name] for row in distinct]
        is_time = pa.types.is_timestamp(field.type)
        columns.append(pa.array(values, pa.int64()).view(field.type) if is_time else pa.array(values, field.type))
    return pa.table(columns, schema=schema)


TIER_TABLES = st.fixed_dictionaries({spec.address: table_rows(spec, 6) for spec in (HOT, WARM, COLD)})

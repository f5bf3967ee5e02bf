"""Tags and observations that are stored as text are read as the lists that they mean, whatever the form."""

import codecs
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.extraction.sandbox import hardened_connection
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.source.databases import File
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.list_texts import parse_items, parse_labels
from akosha_assets.lake.ingestion.source.snapshot_reader import SnapshotReader
from akosha_assets.lake.ingestion.source.snapshots import UploadFiles

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
MIB = 1024**2

FORMS = [
    ("a,b", ["a", "b"]),
    (" a , b,, ", ["a", "b"]),
    ("a;b", ["a", "b"]),
    ("a", ["a"]),
    ("two words", ["two words"]),
    ("#sql #postgres", ["#sql", "#postgres"]),
    ('["a","b"]', ["a", "b"]),
    ('["a, b"]', ["a, b"]),
    ('"a"', ["a"]),
    ('"a,b"', ["a", "b"]),
    ("['a', 'b']", ["a", "b"]),
    ("{a,b}", ["a", "b"]),
    ('["a",null,"b"]', ["a", "b"]),
    ('[["a","b"],["c",[]]]', ["a", "b", "c"]),
    ('[{"name":"a"}]', ['{"name":"a"}']),
    ('{"name":"a"}', ['{"name":"a"}']),
    ("[1,2.5,true]", ["1", "2.5", "true"]),
    ("4.10", ["4.10"]),
    ('\ufeff["a"]', ["a"]),
    ('["a\\ud83d"]', ["a\ufffd"]),
    ('["\\ud83d\\ude00"]', ["\U0001f600"]),
    ("[]", []),
    ("", None),
    ("  ", None),
    ("null", None),
]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SnapshotReader]:
    with hardened_connection([tmp_path], memory_bytes=512 * MIB) as connection:
        limits = Limits(64 * MIB, 1_000_000, 512, 8 * MIB, 60, 1024 * MIB, vectors=True)
        yield SnapshotReader(connection, limits, parser_version=1)


def tags_of(reader: SnapshotReader, path: Path) -> tuple[dict[str, list[str] | None], dict[str, int]]:
    """The tags by id, and the flaws of the upload."""
    read = reader.read([UploadFiles([File(path, path.name, path.name, "etag")], AT, KNOWN_SCHEMA.empty_table())])
    rows = [row for piece in read.rows["lifecycle/hot"] for row in piece.batch.to_pylist()]
    return {row["id"]: row["tags"] for row in rows}, dict(read.flaws[0])


def sqlite_file(path: Path, values: list[Any]) -> None:
    with sqlite3.connect(path) as lite:
        lite.execute("CREATE TABLE reflections (id TEXT, content TEXT, tags, timestamp TEXT)")
        lite.executemany(
            "INSERT INTO reflections VALUES (?, 'x', ?, '2026-11-20 10:00:00')", list(enumerate_ids(values))
        )
    lite.close()


def enumerate_ids(values: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"t{number}", value) for number, value in enumerate(values))


def test_every_form_of_tags_in_sqlite(reader: SnapshotReader, tmp_path: Path) -> None:
    sqlite_file(tmp_path / "memory.db", [text for text, _ in FORMS])
    tags, flaws = tags_of(reader, tmp_path / "memory.db")
    assert tags == {f"t{number}": expected for number, (_, expected) in enumerate(FORMS)}
    assert (flaws["list_item_null"], flaws["text_not_utf8"]) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("VARCHAR", "'a,b'", ["a", "b"]),
        ("VARCHAR[]", "['a,b', NULL, 'c']", ["a,b", "c"]),
        ("JSON", """'["a", null, ["b"]]'""", ["a", "b"]),
        ("VARCHAR[][]", "[['a'], ['b', 'c']]", ["a", "b", "c"]),
        ("INTEGER[]", "[1, 2]", ["1", "2"]),
        ("INTEGER", "7", ["7"]),
        ("STRUCT(name VARCHAR)[]", "[{'name': 'a'}]", ['{"name":"a"}']),
    ],
)
def test_every_type_of_tags_in_duckdb(
    reader: SnapshotReader, tmp_path: Path, kind: str, value: str, expected: list[str]
) -> None:
    path = tmp_path / "reflection.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"CREATE TABLE reflections_v2 (id VARCHAR, content VARCHAR, tags {kind}, timestamp TIMESTAMP)"
        )
        connection.execute(f"INSERT INTO reflections_v2 VALUES ('t', 'x', {value}, '2026-11-20 10:00:00')")
    assert tags_of(reader, path)[0] == {"t": expected}


def test_observations_keep_their_commas() -> None:
    assert parse_items(b"slow, but correct") == (["slow, but correct"], False)
    assert parse_items(b'["slow, but correct", "old"]') == (["slow, but correct", "old"], False)
    assert parse_labels(b"a\xff,b") == (["a\ufffd", "b"], True)
    assert parse_labels(b"[" * 100_000)[0] is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8) | st.none(), max_size=6))
def test_a_json_list_is_read_as_it_is(items: list[str | None]) -> None:
    for text in (json.dumps(items), json.dumps(items, ensure_ascii=False, indent=1)):
        assert parse_labels(text.encode()) == (items, False)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_list_of_storable_texts(raw: bytes) -> None:
    for parse in (parse_labels, parse_items):
        for item in parse(raw)[0] or []:
            assert item is None or item.encode().decode() == item


DOCUMENT = '{"conversations": [{"id": "a", "content": "naïve €", "timestamp": "2026-11-20T10:00:00Z"}]}'
LINES = '{"id": "a", "content": "naïve €"}\n\n{"id": "b", "content": "second"}\n'
JSON_FILES: dict[str, tuple[bytes, dict[str, str], dict[str, int]]] = {
    "with a byte order mark": (codecs.BOM_UTF8 + DOCUMENT.encode(), {"a": "naïve €"}, {}),
    "in UTF-16": (DOCUMENT.encode("utf-16"), {"a": "naïve €"}, {}),
    "in UTF-16 without a mark": (DOCUMENT.encode("utf-16-le"), {"a": "naïve €"}, {}),
    "in UTF-32": (DOCUMENT.encode("utf-32"), {"a": "naïve €"}, {}),
    "with padding": (b"\r\n " + DOCUMENT.encode() + b"\n\0\0", {"a": "naïve €"}, {}),
    "with half a pair": (DOCUMENT.replace("€", "\\ud83d").encode(), {"a": "naïve \ufffd"}, {"text_not_utf8": 1}),
    "with a byte of Latin-1": (
        DOCUMENT.replace("€", "").encode("latin-1"), {"a": "na\ufffdve "}, {"text_not_utf8": 1}
    ),
    "with a line break in a text": (DOCUMENT.replace("€", "\n").encode(), {"a": "naïve \n"}, {}),
    "with NaN": (DOCUMENT.replace('"id"', '"score": NaN, "id"').encode(), {"a": "naïve €"}, {}),
    "as a list": (f"[{LINES.strip().replace(chr(10) * 2, ',')}]".encode(), {"a": "naïve €", "b": "second"}, {}),
    "as lines": (codecs.BOM_UTF8 + LINES.encode(), {"a": "naïve €", "b": "second"}, {}),
    "with a row that is none": (
        DOCUMENT.replace("[{", "[null, 7, {").encode(), {"a": "naïve €"}, {"row_not_object": 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", JSON_FILES)
def test_a_json_file_is_read(reader: SnapshotReader, tmp_path: Path, form: str) -> None:
    content, texts, flaws = JSON_FILES[form]
    path = tmp_path / "memories.json"
    path.write_bytes(content)
    read = reader.read([UploadFiles([File(path, path.name, path.name, "etag")], AT, KNOWN_SCHEMA.empty_table())])
    assert {row["id"]: row["text"] for piece in read.rows["lifecycle/hot"] for row in piece.batch.to_pylist()} == texts
    assert {
        name: count for name, count in read.flaws[0].items() if name in ("text_not_utf8", "row_not_object")
    } == flaws


@pytest.mark.parametrize(
    ("pack", "found"),
    [
        (lambda raw: b"\x1f\x8b\x08" + raw, "gzip again"),
        (lambda raw: b"BZh9" + raw, "bzip2"),
        (lambda raw: b"PK\x03\x04" + raw, "a ZIP archive"),
    ],
)
def test_another_compression_is_named(
    reader: SnapshotReader, tmp_path: Path, pack: Callable[[bytes], bytes], found: str
) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(pack(bytes(100)))
    with pytest.raises(UploadRejected, match=f"but {found}; expected a database"):
        reader.read([UploadFiles([File(path, path.name, path.name, "etag")], AT, KNOWN_SCHEMA.empty_table())])

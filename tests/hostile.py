"""Hostile and odd database files: `REJECTED` with the expected reason code, `ACCEPTED` with the expected flaws.

The maker of each case writes one file.
"""

import gzip
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np

Maker = Callable[[Path], None]

PAGE_BYTES, HEADER_BYTES, BLOCK_BYTES = 4096, 3 * 4096, 262_144
MARKER = "a text that stands out by its marker"
CONVERSATIONS = "CREATE TABLE conversations_v2 (id VARCHAR, content VARCHAR, timestamp TIMESTAMP, embedding FLOAT[384])"


def database(path: Path, *statements: str) -> None:
    """Write a DuckDB file with the statements and checkpoint it."""
    with duckdb.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("CHECKPOINT")


def sqlite(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def sound(path: Path) -> None:
    database(
        path,
        CONVERSATIONS,
        f"INSERT INTO conversations_v2 SELECT 'id-' || i, '{MARKER} ' || i, '2026-11-01', NULL FROM range(20) r(i)",
    )


def with_repaired_checksums(content: bytes) -> bytes:
    """`content`, a DuckDB file, with the checksum of every block recomputed, so that the damage is not detected."""
    raw = np.frombuffer(content, np.uint8).copy()
    starts = [(start, PAGE_BYTES) for start in range(0, HEADER_BYTES, PAGE_BYTES)]
    starts += [(start, BLOCK_BYTES) for start in range(HEADER_BYTES, len(raw) - BLOCK_BYTES + 1, BLOCK_BYTES)]
    for start, size in starts:
        words = raw[start + 8 : start + size].view(np.uint64)
        mixed = np.bitwise_xor.reduce(words * np.uint64(0xBF58476D1CE4E5B9)) ^ np.uint64(5381)
        raw[start : start + 8] = np.frombuffer(struct.pack("<Q", int(mixed)), np.uint8)
    return raw.tobytes()


def _duckdb_of(*statements: str) -> Maker:
    return lambda path: database(path, *statements)


def _bytes(content: Callable[[], bytes]) -> Maker:
    def make(path: Path) -> None:
        path.write_bytes(content())

    return make


def _of_sound(change: Callable[[bytes], bytes]) -> Maker:
    def make(path: Path) -> None:
        sound(path)
        path.write_bytes(change(path.read_bytes()))

    return make


def _flipped(content: bytes, positions: range) -> bytes:
    raw = bytearray(content)
    for position in positions:
        raw[position] ^= 0xFF
    return bytes(raw)


def _false_trailer() -> bytes:
    packed = gzip.compress(bytes(8 * 1024**2))
    return packed[:-4] + struct.pack("<I", 1000)


def _sqlite_of(*statements: str) -> Maker:
    return lambda path: sqlite(path, *statements)


_WIDE = ", ".join(f"c{number} INTEGER" for number in range(2000))

REJECTED: dict[str, tuple[Maker, str]] = {
    "a gzip file that ends early": (_of_sound(lambda raw: gzip.compress(raw)[:1000]), "gzip_damaged"),
    "a gzip file with flipped bits": (
        _of_sound(lambda raw: _flipped(gzip.compress(raw), range(400, 420))),
        "gzip_damaged",
    ),
    "a gzip file with something after its end": (
        _of_sound(lambda raw: gzip.compress(raw) + b"\x10\0\0\0"),
        "gzip_damaged",
    ),
    "a gzip member that is cut after a whole one": (
        _of_sound(lambda raw: gzip.compress(raw) + gzip.compress(raw)[:1000]),
        "gzip_damaged",
    ),
    "a gzip bomb after an empty member": (
        _bytes(lambda: gzip.compress(b"") + gzip.compress(bytes(80 * 1024**2)) + gzip.compress(b"")),
        "file_too_large_raw",
    ),
    "a gzip file of three bytes": (_bytes(lambda: b"\x1f\x8b\x08"), "gzip_damaged"),
    "a gzip bomb": (_bytes(lambda: gzip.compress(bytes(80 * 1024**2))), "file_too_large_raw"),
    "a gzip bomb with a false size in its trailer": (_bytes(_false_trailer), "gzip_damaged"),
    "a file that is too large without gzip": (_bytes(lambda: b"DUCK" * (17 * 1024**2)), "file_too_large_raw"),
    "an empty file": (_bytes(lambda: b""), "database_unreadable"),
    "text": (_bytes(lambda: b"This is not a database. " * 100), "database_unreadable"),
    "the magic bytes of DuckDB and random bytes": (
        _bytes(lambda: bytes(8) + b"DUCK" + bytes(range(256)) * 100),
        "database_unreadable",
    ),
    "a truncated database": (_of_sound(lambda raw: raw[: len(raw) // 2]), "database_unreadable"),
    "a database with flipped bits": (
        _of_sound(lambda raw: _flipped(raw, range(HEADER_BYTES + 64, len(raw), 999))),
        "database_unreadable",
    ),
    "a write-ahead log": (_bytes(lambda: b"\x65\x00\x16" + bytes(500)), "database_unreadable"),
    "a view that reads a local file": (
        _duckdb_of("CREATE VIEW conversations_v2 AS SELECT content AS id, content FROM read_text('/etc/passwd')"),
        "database_hostile",
    ),
    "a view that never ends": (
        _duckdb_of(
            "CREATE VIEW reflections_v2 AS SELECT a.range::VARCHAR AS id, 'x' AS content FROM range(1000000000) a, "
            "range(1000000000) b"
        ),
        "database_hostile",
    ),
    "a generated column": (
        _duckdb_of(
            "CREATE TABLE conversations_v2 (id VARCHAR, content VARCHAR GENERATED ALWAYS AS (repeat(id, 100000000)))",
            "INSERT INTO conversations_v2 VALUES ('a')",
        ),
        "database_hostile",
    ),
    "a table of two thousand columns": (
        _duckdb_of(f"CREATE TABLE wide ({_WIDE})", "INSERT INTO wide (c0) VALUES (1)"),
        "too_many_columns",
    ),
    "more than a thousand tables": (
        _duckdb_of(";".join(f"CREATE TABLE t{number} (a INTEGER)" for number in range(1001))),
        "too_many_tables",
    ),
    "more rows than the limit": (
        _duckdb_of("CREATE TABLE numbers AS SELECT range AS n FROM range(60000)"),
        "too_many_rows",
    ),
    "a text of 30 MB": (
        _duckdb_of("CREATE TABLE conversations_v2 AS SELECT 'a' AS id, repeat('x', 30000000) AS content"),
        "field_too_large",
    ),
    "an id of two kilobytes": (
        _duckdb_of("CREATE TABLE conversations_v2 AS SELECT repeat('x', 2000) AS id, 'a' AS content"),
        "field_too_large",
    ),
    "a row without id": (
        _duckdb_of(CONVERSATIONS, "INSERT INTO conversations_v2 VALUES (NULL, 'a', NULL, NULL)"),
        "row_without_id",
    ),
    "a row with an empty id": (
        _duckdb_of(CONVERSATIONS, "INSERT INTO conversations_v2 VALUES ('', 'a', NULL, NULL)"),
        "row_without_id",
    ),
    "an id that is a structure": (
        _duckdb_of("CREATE TABLE conversations_v2 AS SELECT {'a': 1} AS id, 'a' AS content"),
        "column_type_unexpected",
    ),
    "texts that are bytes": (
        _duckdb_of("CREATE TABLE reflections_v2 AS SELECT 'a' AS id, 'a'::BLOB AS content"),
        "column_type_unexpected",
    ),
    "memories without text": (
        _duckdb_of("CREATE TABLE conversations_v2 AS SELECT 'a' AS id"),
        "column_type_unexpected",
    ),
    "a truncated SQLite database": (
        lambda path: (
            _sqlite_of("CREATE TABLE t (a)", "INSERT INTO t VALUES (hex(randomblob(9000)))")(path),
            path.write_bytes(path.read_bytes()[:6000]),
        )[0],
        "database_unreadable",
    ),
    "a SQLite view": (
        _sqlite_of("CREATE VIEW conversations_v2 AS SELECT 'a' AS id, 'b' AS content"),
        "database_hostile",
    ),
    "a SQLite view that loads an extension": (
        _sqlite_of("CREATE VIEW reflections AS SELECT load_extension('/tmp/x.so') AS id, 'b' AS content"),
        "database_hostile",
    ),
    "a generated column in SQLite": (
        _sqlite_of(
            "CREATE TABLE conversations_v2 (id TEXT, content TEXT AS (hex(zeroblob(5000))))",
            "INSERT INTO conversations_v2 (id) VALUES (1)",
        ),
        "database_hostile",
    ),
    "a SQLite value of 30 MB": (
        _sqlite_of(
            "CREATE TABLE conversations_v2 (id, content)",
            "INSERT INTO conversations_v2 VALUES ('a', zeroblob(30000000))",
        ),
        "database_unreadable",
    ),
    "JSON of another kind": (_bytes(lambda: b'{"conversations": [1, 2]}'), "database_unreadable"),
    "deeply nested JSON": (_bytes(lambda: b'{"conversations": ' + b"[" * 100_000), "database_unreadable"),
}

_NAN = "list_transform(range(384), lambda i: 'nan'::FLOAT)::FLOAT[384]"
_INFINITE = "list_transform(range(384), lambda i: 'inf'::FLOAT)::FLOAT[384]"
_ZERO = "list_transform(range(384), lambda i: 0::FLOAT)::FLOAT[384]"
_SIZES = (
    "CREATE TABLE conversations_v2 AS SELECT 'id-' || i AS id, 'a' AS content, list_transform(range(i), lambda "
    "j: 1.0::FLOAT) AS embedding"
)


def _not_utf8(path: Path) -> None:
    sound(path)
    raw = path.read_bytes().replace(b"stands", b"st\xff\xfeds")
    path.write_bytes(with_repaired_checksums(raw))


ACCEPTED: dict[str, tuple[Maker, dict[str, int]]] = {
    "vectors of NaN, of infinity and of zeros": (
        _duckdb_of(
            CONVERSATIONS,
            *(
                f"INSERT INTO conversations_v2 VALUES ('{n}', 'a', '2026-11-01', {v})"
                for n, v in enumerate((_NAN, _INFINITE, _ZERO))
            ),
        ),
        {"vector_not_finite": 2, "vector_zero": 1},
    ),
    "vectors of other sizes": (
        _duckdb_of(f"{_SIZES} FROM (VALUES (0), (1), (383), (768)) r(i)"),
        {"vector_wrong_size": 4},
    ),
    "texts that are not UTF-8": (_not_utf8, {"text_not_utf8": 1}),
    "times in the years 1900 and 9999 and at infinity": (
        _duckdb_of(
            CONVERSATIONS,
            "INSERT INTO conversations_v2 SELECT 'id-' || row_number() OVER (), 'a', t::TIMESTAMP, NULL FROM "
            "(VALUES ('1900-01-01'), ('9999-12-31 23:59:59'), ('infinity'), ('-infinity'), ('290000-01-01'), "
            "('0044-03-15 (BC)')) r(t)",
        ),
        {"timestamp_out_of_range": 6},
    ),
    "macros named like functions that we call": (
        _duckdb_of(
            CONVERSATIONS,
            "INSERT INTO conversations_v2 VALUES ('a', 'b', '2026-11-01', NULL)",
            "CREATE MACRO md5(a) AS (SELECT content FROM read_text('/etc/passwd'))",
            "CREATE MACRO to_json(a) AS error('called')",
            "CREATE MACRO concat_ws(a, b) AS error('called')",
        ),
        {},
    ),
    "a view beside the tables": (
        _duckdb_of(
            CONVERSATIONS,
            "INSERT INTO conversations_v2 VALUES ('a', 'b', NULL, NULL)",
            "CREATE VIEW v AS SELECT * FROM glob('/*')",
        ),
        {"view_ignored": 1},
    ),
    "names that try to break out of their quotes": (
        _duckdb_of(
            """CREATE TABLE "x"" UNION SELECT * FROM read_text('/etc/passwd') --"
            (id VARCHAR, "a'b""c" VARCHAR, "select" INTEGER)""",
            """INSERT INTO "x"" UNION SELECT * FROM read_text('/etc/passwd') --" VALUES ('1', 'y', 2)""",
        ),
        {},
    ),
    "one id twice in a table": (
        _duckdb_of("CREATE TABLE conversations_v2 AS SELECT 'a' AS id, 'text ' || i AS content FROM range(3) r(i)"),
        {"id_doubled": 2},
    ),
    "metadata that is not JSON": (
        _duckdb_of(
            "CREATE TABLE conversations_v2 AS SELECT 'a' AS id, 'b' AS content, '{\"source_session\": ' AS metadata"
        ),
        {},
    ),
    "text that is null": (
        _duckdb_of(CONVERSATIONS, "INSERT INTO conversations_v2 (id) VALUES ('a')"),
        {"text_missing": 1},
    ),
    "a SQLite database": (
        _sqlite_of(
            "CREATE TABLE conversations_v2 (id TEXT, content TEXT, timestamp TEXT)",
            "INSERT INTO conversations_v2 VALUES ('a', 'b', '2026-11-01')",
        ),
        {},
    ),
    "SQLite text that is not UTF-8": (
        _sqlite_of(
            "CREATE TABLE conversations_v2 (id TEXT, content TEXT)",
            "INSERT INTO conversations_v2 VALUES ('a', CAST(x'61ff62' AS TEXT))",
        ),
        {},
    ),
    "a database without tables": (_duckdb_of("SELECT 1"), {}),
}

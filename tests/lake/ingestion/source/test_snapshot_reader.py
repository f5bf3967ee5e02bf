"""Rows of a snapshot: precedence, change detection, formats, unknown tables and columns."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from akosha_assets.lake.ingestion.extraction.sandbox import hardened_connection
from akosha_assets.lake.ingestion.source import changed_rows, snapshot_reader
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.source.conversion import ENCODED_TEXT, VECTOR_NUMBERS, decode_texts
from akosha_assets.lake.ingestion.source.databases import File
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.snapshot_reader import SnapshotReader
from akosha_assets.lake.ingestion.source.snapshots import Piece, RetryIndividually, Snapshots, UploadFiles
from tests.hostile import database, sqlite

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIB = 1024**2
FULL = (
    "CREATE TABLE conversations_v2 (id VARCHAR, content VARCHAR, project VARCHAR, importance_score FLOAT, "
    "metadata VARCHAR, timestamp TIMESTAMP)"
)
ROW = (
    "INSERT INTO conversations_v2 VALUES ('a', 'first', 'atlas', 0.5, '{\"source_session\": \"s-1\"}', '2026-11-20 "
    "10:00:00')"
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SnapshotReader]:
    limits = Limits(64 * MIB, 1_000_000, 512, 8 * MIB, 60, 1024 * MIB, vectors=True)
    with hardened_connection([tmp_path], memory_bytes=512 * MIB) as connection:
        yield SnapshotReader(connection, limits, 1)


def upload(*paths: Path, known: pa.Table | None = None, at: datetime = AT) -> UploadFiles:
    files = [File(path, path.name, f"key/{path.name}", "etag") for path in paths]
    return UploadFiles(files, at, KNOWN_SCHEMA.empty_table() if known is None else known)


def read(reader: SnapshotReader, *paths: Path, known: pa.Table | None = None, at: datetime = AT) -> Snapshots:
    return reader.read([upload(*paths, known=known, at=at)])


def table(pieces: list[Piece], place: int = 0) -> pa.Table:
    return pa.Table.from_batches([piece.batch.filter(pa.array(piece.upload == place)) for piece in pieces])


def rows(snapshots: Snapshots, address: str = "lifecycle/hot", place: int = 0) -> list[dict[str, Any]]:
    return table(snapshots.rows[address], place).to_pylist() if address in snapshots.rows else []


def known_of(snapshots: Snapshots, at: datetime = AT, **changed: Any) -> pa.Table:
    seen = table(snapshots.seen).to_pylist()
    return pa.Table.from_pylist(
        [{**row, "snapshot_at": at, "is_absent": False, **changed} for row in seen], schema=KNOWN_SCHEMA
    )


def test_known_columns_are_mapped_and_unknown_ones_are_stored_as_json(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    database(
        path,
        FULL,
        ROW,
        "ALTER TABLE conversations_v2 ADD COLUMN mood VARCHAR DEFAULT 'calm'",
        "ALTER TABLE conversations_v2 ADD COLUMN numbers INTEGER[]",
    )

    (row,) = rows(read(reader, path))

    assert (row["id"], row["text"], row["project"], row["importance"], row["session_id"]) == (
        "a",
        "first",
        "atlas",
        0.5,
        "s-1",
    )
    assert json.loads(row["attributes"]) == {"metadata": {"source_session": "s-1"}}
    assert json.loads(row["_rescued"]) == {"mood": "calm"}
    assert (row["event_day"], row["occurred_from"], row["object_key"]) == (
        date(2026, 11, 20),
        "local_assumed_utc",
        "key/a.duckdb",
    )
    assert len(row["fingerprint"]) == 1024


def test_column_order_empty_columns_and_usage_do_not_change_the_hash(reader: SnapshotReader, tmp_path: Path) -> None:
    one, other = tmp_path / "a.duckdb", tmp_path / "b.duckdb"
    database(one, FULL, ROW)
    database(
        other,
        "CREATE TABLE conversations_v2 (metadata VARCHAR, timestamp TIMESTAMP, importance_score FLOAT, project "
        "VARCHAR, content VARCHAR, "
        "id VARCHAR, access_count INTEGER, last_accessed TIMESTAMP, brand_new VARCHAR, fingerprint BLOB, namespace "
        "VARCHAR)",
        "INSERT INTO conversations_v2 (id, content, project, importance_score, metadata, timestamp, access_count, "
        "last_accessed) "
        "VALUES ('a', 'first', 'atlas', 0.5, '{\"source_session\": \"s-1\"}', '2026-11-20 10:00:00', 7, '2026-11-23')",
    )

    assert rows(read(reader, other, known=known_of(read(reader, one)), at=AT + timedelta(hours=1))) == []


@pytest.mark.parametrize(
    "change",
    ["content = 'second'", "project = NULL", "importance_score = 0.6", "metadata = '{}'", "timestamp = '2026-11-19'"],
)
def test_a_changed_row_keeps_its_event_day(reader: SnapshotReader, tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.duckdb"
    database(path, FULL, ROW)
    known = known_of(read(reader, path))
    database(path, f"UPDATE conversations_v2 SET {change}")

    (row,) = rows(read(reader, path, known=known, at=AT + timedelta(hours=1)))

    assert row["event_day"] == date(2026, 11, 20)


def test_an_older_snapshot_changes_nothing_and_keeps_the_known_hash(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    database(path, FULL, ROW)
    known = known_of(read(reader, path))
    database(path, "UPDATE conversations_v2 SET content = 'older'")

    late = read(reader, path, known=known, at=AT - timedelta(hours=1))

    assert rows(late) == []
    assert table(late.seen).column("content_hash").to_pylist() == known.column("content_hash").to_pylist()


def test_a_row_that_was_absent_is_stored_again(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    database(path, FULL, ROW)

    known = known_of(read(reader, path), is_absent=True)

    assert len(rows(read(reader, path, known=known, at=AT + timedelta(hours=1)))) == 1


def test_of_a_memory_in_both_generations_of_tables_the_newer_one_is_read(
    reader: SnapshotReader, tmp_path: Path
) -> None:
    path = tmp_path / "a.duckdb"
    encoded = base64.b64encode(
        "a lone surrogate: \ud83d and a pair: \ud83d\ude00".encode("utf-8", "surrogatepass")
    ).decode()
    database(
        path,
        FULL,
        ROW,
        "CREATE TABLE conversations (id VARCHAR, content VARCHAR, timestamp TIMESTAMP, metadata JSON)",
        "INSERT INTO conversations VALUES ('a', 'old form', '2026-11-20 10:00:00', NULL)",
        f"""INSERT INTO conversations VALUES ('b', '__SB64__{encoded}', '2026-11-20 02:00:00',
        '{{"timestamp": "2026-11-20T10:00:00+00:00"}}')""",
    )

    snapshot = read(reader, path)

    found = {row["id"]: row for row in rows(snapshot)}
    assert found["a"]["text"] == "first"
    assert found["b"]["text"] == "a lone surrogate: \ufffd and a pair: \U0001f600"
    assert found["b"]["occurred_from"] == "utc"
    # The metadata of the older table proves the clock offset for the newer one.
    assert found["a"]["occurred_at"] == datetime(2026, 11, 20, 18, tzinfo=UTC)
    assert snapshot.flaws[0]["id_doubled"] == 1


def test_rows_of_unknown_tables_are_stored_under_a_stable_key(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    database(
        path,
        "CREATE TABLE user_models (peer_id VARCHAR, project_id VARCHAR, last_updated TIMESTAMP)",
        "INSERT INTO user_models VALUES ('ada', 'atlas', '2026-11-20 10:00:00')",
        "CREATE TABLE session_windows (id VARCHAR, started_at TIMESTAMPTZ, session_metadata JSON)",
        """INSERT INTO session_windows VALUES ('w', '2026-11-20 10:00:00+00', '{"a": [1]}')""",
        "CREATE TABLE without_key (a INTEGER, b DECIMAL(9, 2), c STRUCT(d DATE))",
        (
            "INSERT INTO without_key VALUES (1, 2.5, {'d': '2026-01-01'}), (1, 2.5, {'d': '2026-01-01'}), (NULL, NULL, "
            "NULL)"
        ),
        "CREATE TABLE memory_access_log (id VARCHAR)",
        "INSERT INTO memory_access_log VALUES ('a'), ('b')",
    )

    snapshot = read(reader, path)

    found = {row["id"]: json.loads(row["row"]) for row in rows(snapshot, "ingestion/rescued")}
    assert found.pop("user_models/ada/atlas") == {
        "peer_id": "ada",
        "project_id": "atlas",
        "last_updated": "2026-11-20 10:00:00.000000",
    }
    assert found.pop("session_windows/w") == {
        "id": "w",
        "started_at": "2026-11-20 10:00:00+00",
        "session_metadata": {"a": [1]},
    }
    assert sorted(map(str, found.values())) == [str({"a": 1, "b": "2.50", "c": {"d": "2026-01-01"}}), "{}"]
    assert snapshot.flaws[0]["bookkeeping_left_out"] == 2
    assert rows(read(reader, path, known=known_of(snapshot), at=AT + timedelta(hours=1)), "ingestion/rescued") == []


def test_reading_in_batches_gives_the_same_rows(
    reader: SnapshotReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.duckdb"
    database(
        path,
        FULL,
        (
            "INSERT INTO conversations_v2 SELECT 'id-' || i, 'text ' || i, 'atlas', i / 7.0, NULL, TIMESTAMP "
            "'2026-11-20 "
            "01:00:00' + INTERVAL (i) MINUTE FROM range(300) r(i)"
        ),
        "INSERT INTO conversations_v2 SELECT * FROM conversations_v2 WHERE id = 'id-7'",
        "INSERT INTO conversations_v2 VALUES ('odd', 'x', NULL, NULL, NULL, 'infinity')",
        (
            "CREATE TABLE conversations AS SELECT id, 'older' AS content, timestamp FROM conversations_v2 WHERE id IN "
            "('id-1', 'id-2')"
        ),
        "CREATE TABLE causal_links (id VARCHAR, from_id VARCHAR, created_at TIMESTAMP)",
        "INSERT INTO causal_links VALUES ('01M843591DD1RWRV4PGV7Y18QD', 'id-1', '2026-11-23 03:37:46.285')",
    )
    at_once = read(reader, path)
    monkeypatch.setattr(snapshot_reader, "WHOLE_READ_MAX_ROWS", 0)
    monkeypatch.setattr("akosha_assets.lake.ingestion.source.batches.FEW_ROWS", 0)
    monkeypatch.setattr("akosha_assets.lake.ingestion.source.batches.BATCH_ROWS", 100)

    batched = read(reader, path)

    for address in ("lifecycle/hot", "graph/causal_links"):
        assert sorted(rows(batched, address), key=lambda row: row["id"]) == sorted(
            rows(at_once, address), key=lambda row: row["id"]
        )
    assert {row["occurred_from"] for row in rows(at_once)} == {"ulid_offset", "snapshot"}
    assert at_once.flaws == batched.flaws == [{"id_doubled": 3, "timestamp_out_of_range": 1}]


def test_a_group_of_uploads_gives_the_same_rows_as_each_alone(reader: SnapshotReader, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.duckdb" for name in "abc"]
    link = "INSERT INTO causal_links VALUES ('01M843591DD1RWRV4PGV7Y18QD', 'a', '{}')"
    extra = "ALTER TABLE conversations_v2 ADD COLUMN mood VARCHAR"
    database(
        paths[0],
        FULL,
        ROW,
        "CREATE TABLE causal_links (id VARCHAR, from_id VARCHAR, created_at TIMESTAMP)",
        link.format("2026-11-23 03:37:46"),
    )
    database(
        paths[1],
        FULL,
        ROW,
        "INSERT INTO conversations_v2 SELECT * FROM conversations_v2",
        "CREATE TABLE odd AS SELECT 1 AS a",
    )
    database(
        paths[2],
        FULL,
        ROW,
        extra,
        "INSERT INTO conversations_v2 VALUES ('b', 'x', NULL, NULL, NULL, '9000-01-01', 'calm')",
    )
    sqlite(
        tmp_path / "d.db",
        "CREATE TABLE conversations_v2 (id TEXT, content TEXT)",
        "INSERT INTO conversations_v2 VALUES ('a', 'other')",
    )
    known = known_of(read(reader, paths[2]), at=AT - timedelta(hours=1)).slice(0, 1)
    uploads = [
        upload(*paths[:2]),
        upload(paths[1]),
        upload(paths[2], known=known),
        upload(tmp_path / "d.db", at=AT + timedelta(days=1)),
    ]

    together = reader.read(uploads)

    for place, one in enumerate(uploads):
        alone = reader.read([one])
        for address in {*together.rows, *alone.rows}:
            by_id = sorted(rows(together, address, place), key=lambda row: row["id"])
            assert by_id == sorted(rows(alone, address), key=lambda row: row["id"])
        assert table(together.seen, place).sort_by("id").equals(table(alone.seen).sort_by("id"))
        assert (together.flaws[place], together.rows_read[place]) == (alone.flaws[0], alone.rows_read[0])
    assert [flaws for flaws in together.flaws if flaws] == [
        {"id_doubled": 2},
        {"id_doubled": 1},
        {"timestamp_out_of_range": 1},
    ]


@pytest.mark.parametrize("max_rows", [1, 50_000])
def test_an_error_in_a_group_asks_for_reading_individually(
    reader: SnapshotReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    path = tmp_path / "a.duckdb"
    database(path, FULL, ROW)
    monkeypatch.setattr(snapshot_reader, "WHOLE_READ_MAX_ROWS", max_rows)
    if max_rows > 1:
        monkeypatch.setattr(changed_rows, "is_utf8", lambda _: False)

    with pytest.raises(RetryIndividually):
        reader.read([upload(path), upload(path)])


def test_vectors_are_stored_as_unit_vectors_in_half_precision(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    database(
        path,
        f"CREATE TABLE conversations_v2 AS SELECT 'a' AS id, 'x' AS content, "
        f"list_transform(range({VECTOR_NUMBERS}), lambda i: IF(i = 3, 1e30, 0)::FLOAT)::FLOAT[{VECTOR_NUMBERS}] AS "
        "embedding",
    )

    (row,) = rows(read(reader, path))

    assert row["vector"] == bytes(6) + b"\x00\x3c" + bytes(2 * VECTOR_NUMBERS - 8)


def test_sqlite_and_memories_json_give_the_same_rows_as_duckdb(reader: SnapshotReader, tmp_path: Path) -> None:
    native, lite, older = tmp_path / "a.duckdb", tmp_path / "memory.db", tmp_path / "memories.json"
    database(
        native,
        "CREATE TABLE conversations (id VARCHAR, content VARCHAR, timestamp TIMESTAMPTZ, metadata JSON)",
        """INSERT INTO conversations VALUES ('a', 'first', '2026-11-20 10:00:00+00', '{"x": 1}')""",
    )
    sqlite(
        lite,
        "CREATE TABLE conversations (id TEXT, content TEXT, timestamp TEXT, metadata TEXT)",
        """INSERT INTO conversations VALUES ('a', 'first', '2026-11-20T10:00:00Z', '{"x": 1}')""",
    )
    vector = [1.0] + [0.0] * (VECTOR_NUMBERS - 1)
    record = {
        "id": "a",
        "content": "first",
        "timestamp": "2026-11-20T10:00:00Z",
        "metadata": {"x": 1},
        "embedding": vector,
        "source": "claude",
    }
    older.write_text(json.dumps({"conversations": [record]}))

    columns = ("kind", "id", "text", "occurred_at", "occurred_from", "event_day", "fingerprint", "source_table")
    found = [
        {name: row[name] for name in columns} for path in (native, lite, older) for row in rows(read(reader, path))
    ]

    assert found == [found[0]] * 3
    (row,) = rows(read(reader, older))
    assert (row["source_type"], json.loads(row["attributes"])) == ("claude", {"metadata": {"x": 1}})
    assert row["vector"] is not None


def test_an_entity_of_the_knowledge_graph_keeps_its_observations(reader: SnapshotReader, tmp_path: Path) -> None:
    path = tmp_path / "knowledge_graph.duckdb"
    database(
        path,
        (
            "CREATE TABLE kg_entities (id VARCHAR, name VARCHAR, entity_type VARCHAR, observations VARCHAR[], "
            "properties "
            "JSON, created_at TIMESTAMP)"
        ),
        """INSERT INTO kg_entities VALUES ('e', 'DuckDB', 'technology', ['fast', NULL, 'small'],
        '{"v": 2}', '2026-11-20 10:00:00')""",
    )

    (row,) = rows(read(reader, path), "graph/entities")

    assert (row["name"], row["observations"], row["properties"]) == ("DuckDB", ["fast", "small"], '{"v": 2}')


@pytest.mark.parametrize("encoded", ["ÿ", "not base64!", "/w=="])
def test_a_text_that_only_looks_encoded_is_unchanged(encoded: str) -> None:
    text = f"{ENCODED_TEXT}{encoded}"
    assert decode_texts(pa.array([text])).to_pylist() == [text]

"""Times with a zone and epoch numbers are read exactly, in every format and with any metadata."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from akosha_assets.lake.ingestion.extraction.sandbox import hardened_connection
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.source.databases import File
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.snapshot_reader import SnapshotReader
from akosha_assets.lake.ingestion.source.snapshots import UploadFiles
from tests.hostile import database, sqlite

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
MIB = 1024**2
NUMBER = 1_795_600_000
MOMENT = datetime(2026, 11, 25, 9, 46, 40, tzinfo=UTC)
# By form: the value in the source, and its UTC time.
FORMS: dict[str, tuple[str | int | float, datetime]] = {
    "UTC": ("2026-11-25T09:46:40Z", MOMENT),
    "offset": ("2026-11-25T15:16:40+05:30", MOMENT),
    "seconds": (NUMBER, MOMENT),
    "fraction": (NUMBER + 0.5, MOMENT.replace(microsecond=500_000)),
    "milliseconds": (NUMBER * 1000 + 123, MOMENT.replace(microsecond=123_000)),
    "microseconds": (NUMBER * 10**6 + 123_456, MOMENT.replace(microsecond=123_456)),
    "nanoseconds": (NUMBER * 10**9 + 123_456_000, MOMENT.replace(microsecond=123_456)),
    "number as text": (f"{NUMBER}", MOMENT),
    "milliseconds as text": (f"{NUMBER}123", MOMENT.replace(microsecond=123_000)),
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SnapshotReader, Path]]:
    folder = tmp_path_factory.mktemp("uploads")
    limits = Limits(64 * MIB, 1_000_000, 512, 8 * MIB, 60, 1024 * MIB, vectors=True)
    with hardened_connection([folder], memory_bytes=512 * MIB) as connection:
        yield SnapshotReader(connection, limits, 1), folder


def read(reader: tuple[SnapshotReader, Path], path: Path) -> dict[str, Any]:
    files = [File(path, path.name, f"key/{path.name}", "etag")]
    snapshots = reader[0].read([UploadFiles(files, AT, KNOWN_SCHEMA.empty_table())])
    path.unlink()
    (row,) = (row for piece in snapshots.rows["lifecycle/hot"] for row in piece.batch.to_pylist())
    return {name: row[name] for name in ("occurred_at", "occurred_from")}


@pytest.mark.parametrize("metadata", [None, "{}", '{"a": 1}'], ids=["no metadata", "empty", "metadata"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_time_is_read_exactly(
    reader: tuple[SnapshotReader, Path], form: str, metadata: str | None
) -> None:
    value, moment = FORMS[form]
    lite, older = reader[1] / "memory.db", reader[1] / "memories.json"
    text = f"'{value}'" if isinstance(value, str) else value
    sqlite(
        lite,
        "CREATE TABLE conversations (id TEXT, content TEXT, timestamp, metadata TEXT)",
        f"INSERT INTO conversations VALUES ('a', 'first', {text}, {'NULL' if metadata is None else repr(metadata)})",
    )
    record = {"id": "a", "content": "first", "timestamp": value}
    older.write_text(
        json.dumps({"conversations": [record | ({} if metadata is None else {"metadata": json.loads(metadata)})]})
    )
    expected = {"occurred_at": moment, "occurred_from": "utc"}
    assert [read(reader, path) for path in (lite, older)] == [expected] * 2


@pytest.mark.parametrize("metadata", ["NULL", "'{}'"])
def test_a_timestamptz_column_is_read_exactly(reader: tuple[SnapshotReader, Path], metadata: str) -> None:
    path = reader[1] / "a.duckdb"
    database(
        path,
        "CREATE TABLE conversations (id VARCHAR, content VARCHAR, timestamp TIMESTAMPTZ, metadata JSON)",
        f"INSERT INTO conversations VALUES ('a', 'first', '2026-11-25 11:46:40+02', {metadata})",
    )
    assert read(reader, path) == {"occurred_at": MOMENT, "occurred_from": "utc"}


def test_the_time_in_metadata_has_precedence_over_the_column(reader: tuple[SnapshotReader, Path]) -> None:
    path = reader[1] / "memory.db"
    sqlite(
        path,
        "CREATE TABLE conversations (id TEXT, content TEXT, timestamp TEXT, metadata TEXT)",
        """INSERT INTO conversations VALUES ('a', 'first', '2026-11-24T00:00:00Z',
           '{"timestamp": "2026-11-25T09:46:40+00:00"}')""",
    )
    assert read(reader, path) == {"occurred_at": MOMENT, "occurred_from": "utc"}


@pytest.mark.parametrize("value", ["12", "'20261125'", "1e300", "'99999999999999999999999'", "-1", "'nan'"])
def test_a_number_that_is_not_a_time_falls_back_to_the_snapshot(
    reader: tuple[SnapshotReader, Path], value: str
) -> None:
    path = reader[1] / "memory.db"
    sqlite(
        path,
        "CREATE TABLE conversations (id TEXT, content TEXT, timestamp)",
        f"INSERT INTO conversations VALUES ('a', 'first', {value})",
    )
    assert read(reader, path) in (
        {"occurred_at": AT, "occurred_from": "snapshot"},
        {"occurred_at": datetime(2026, 11, 25, tzinfo=UTC), "occurred_from": "local_assumed_utc"},
    )

"""The pool end to end: real uploads in, rows out."""

import gzip
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.extraction import worker_main
from akosha_assets.lake.ingestion.extraction.pool import (
    KNOWN_SCHEMA,
    Extraction,
    ExtractionJob,
    ExtractionPool,
    SourceFile,
)
from akosha_assets.lake.settings import LakeSettings

COUNTS = {
    "20261123_113736_laptop-ada": {
        "conversations_v2": 86,
        "reflections_v2": 24,
        "conversations": 2,
        "reflections": 2,
        "causal_links": 8,
        "memory_entities": 4,
        "memory_relationships": 2,
        "code_graphs": 2,
        "memory_provenance": 66,
        "kg_entities": 13,
        "kg_relationships": 11,
        "user_models": 1,
    },
    "20261123_113749_ci-runner-7": {
        "conversations_v2": 18,
        "reflections_v2": 5,
        "conversations": 1,
        "reflections": 1,
        "causal_links": 5,
        "memory_entities": 2,
        "memory_relationships": 1,
        "code_graphs": 1,
        "memory_provenance": 13,
        "kg_entities": 7,
        "kg_relationships": 6,
        "user_models": 1,
    },
    "20261123_113803_fresh-box": {"kg_entities": 7, "kg_relationships": 6},
}


KEY = [("kind", "ascending"), ("id", "ascending")]


@pytest.fixture(scope="module")
def pool() -> Iterator[ExtractionPool]:
    with ExtractionPool(LakeSettings(workers=1)) as pool:
        yield pool


def job_of(folder: Path, ref: int = 0, known: pa.Table | None = None) -> ExtractionJob:
    snapshot_at = datetime.strptime(folder.name[:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    files = tuple(
        SourceFile(path.name, f"{folder.name}/{path.name}", f"etag-{path.name}", path)
        for path in sorted(folder.glob("*.duckdb"), reverse=True)
    )
    return ExtractionJob(
        ref,
        folder.parents[1].name,
        snapshot_at,
        snapshot_at,
        files,
        KNOWN_SCHEMA.empty_table() if known is None else known,
    )


def extract_one(pool: ExtractionPool, job: ExtractionJob) -> Extraction:
    ((_, outcome),) = pool.extract([job])
    assert isinstance(outcome, Extraction), outcome
    return outcome


def known_of(extraction: Extraction, snapshot_at: datetime) -> pa.Table:
    rows = extraction.seen.num_rows
    table = extraction.seen.append_column(
        "snapshot_at", pa.repeat(pa.scalar(snapshot_at, KNOWN_SCHEMA.field("snapshot_at").type), rows)
    )
    table = table.append_column("is_absent", pa.repeat(False, rows))
    return table.append_column("memory_id", pa.nulls(rows, pa.string()))


def folder_of(shared: Path, upload_id: str) -> Path:
    return next((shared / "uploads").glob(f"systems/*/uploads/{upload_id}"))


@pytest.mark.shared
@pytest.mark.parametrize("upload_id", COUNTS)
def test_every_row_of_a_real_upload_is_extracted(pool: ExtractionPool, shared: Path, upload_id: str) -> None:
    extraction = extract_one(pool, job_of(folder_of(shared, upload_id)))

    counts = Counter(name for table in extraction.rows.values() for name in table.column("source_table").to_pylist())
    assert counts == COUNTS[upload_id]
    assert extraction.rows_read == extraction.seen.num_rows == sum(counts.values())


@pytest.mark.shared
def test_a_group_of_uploads_gives_the_same_results_as_each_alone(
    pool: ExtractionPool, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = {upload_id: extract_one(pool, job_of(folder_of(shared, upload_id))) for upload_id in COUNTS}
    known = known_of(alone["20261123_113736_laptop-ada"], datetime(2026, 11, 23, tzinfo=UTC))
    uploads = [*COUNTS, *COUNTS, "20261123_113803_fresh-box", "20261123_113736_laptop-ada"]
    jobs = [job_of(folder_of(shared, upload_id), ref) for ref, upload_id in enumerate(uploads)]
    jobs[-1] = job_of(folder_of(shared, uploads[-1]), 7, known)
    caplog.set_level("INFO")

    outcomes = {job.ref: outcome for job, outcome in pool.extract(jobs)}

    assert not caplog.records
    for ref, upload_id in enumerate(uploads):
        outcome, expected = outcomes[ref], alone[upload_id]
        assert isinstance(outcome, Extraction)
        assert outcome.rows == ({} if ref == 7 else expected.rows)
        assert outcome.seen.sort_by(KEY).equals(expected.seen.sort_by(KEY))
        assert (outcome.rows_read, outcome.flaws) == (
            expected.rows_read,
            {"bookkeeping_left_out": 4} if ref == 7 else expected.flaws,
        )


@pytest.mark.shared
def test_an_unchanged_snapshot_gives_no_rows(pool: ExtractionPool, shared: Path) -> None:
    job = job_of(folder_of(shared, "20261123_113736_laptop-ada"))
    first = extract_one(pool, job)

    again = extract_one(
        pool,
        job_of(
            folder_of(shared, "20261123_113736_laptop-ada"), known=known_of(first, job.snapshot_at - timedelta(hours=1))
        ),
    )

    assert again.rows == {}
    assert again.seen.sort_by("id").equals(first.seen.sort_by("id"))


@pytest.mark.shared
def test_the_second_snapshot_of_a_system_adds_only_changed_rows(pool: ExtractionPool, shared: Path) -> None:
    before = job_of(folder_of(shared, "20261123_113725_laptop-ada"))
    after = job_of(
        folder_of(shared, "20261123_113736_laptop-ada"), known=known_of(extract_one(pool, before), before.snapshot_at)
    )

    added = extract_one(pool, after)

    assert added.rows["lifecycle/hot"].num_rows == 114 - 57
    assert added.seen.num_rows == sum(COUNTS["20261123_113736_laptop-ada"].values())


@pytest.mark.shared
def test_local_times_of_a_client_in_california_become_utc(pool: ExtractionPool, shared: Path) -> None:
    job = job_of(folder_of(shared, "20261123_113749_ci-runner-7"))

    hot = extract_one(pool, job).rows["lifecycle/hot"]

    assert set(hot.column("occurred_from").to_pylist()) == {"ulid", "ulid_offset", "utc"}
    recent = [
        time for time in hot.column("occurred_at").to_pylist() if abs(job.snapshot_at - time) < timedelta(minutes=2)
    ]
    assert len(recent) == hot.num_rows


@pytest.mark.shared
def test_a_damaged_upload_does_not_affect_another(pool: ExtractionPool, shared: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "reflection.duckdb"
    damaged.write_bytes(b"\x1f\x8b" + bytes(100))
    good = job_of(folder_of(shared, "20261123_113803_fresh-box"), ref=1)
    bad = ExtractionJob(
        2, "bad", good.snapshot_at, good.arrived_at, (SourceFile("reflection.duckdb", "k", "e", damaged),), good.known
    )

    outcomes = {job.ref: outcome for job, outcome in pool.extract([bad, good])}

    rejected = outcomes[2]
    assert isinstance(rejected, UploadRejected) and rejected.reason == "gzip_damaged"
    assert isinstance(outcomes[1], Extraction)


@pytest.mark.parametrize("uploads", [1, 2])
def test_an_upload_that_unpacks_to_more_bytes_than_its_trailer_claims_is_read_from_disk(
    pool: ExtractionPool, tmp_path: Path, uploads: int
) -> None:
    database = tmp_path / "memory.db"
    with closing(sqlite3.connect(database)) as source:
        source.execute("CREATE TABLE conversations_v2 (id TEXT, content TEXT, timestamp TEXT)")
        source.execute("INSERT INTO conversations_v2 VALUES ('a', 'large', '2026-11-20 10:00:00')")
        source.commit()
    # SQLite reads only the pages that its header counts; the trailer of the last member claims 0 bytes.
    zeros = worker_main.IN_MEMORY_BYTES
    path = tmp_path / "memory.db.gz"
    path.write_bytes(b"".join(map(gzip.compress, (database.read_bytes(), bytes(zeros), b""))))
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    files = (SourceFile("memory.db", "memory.db", "etag", path),)
    jobs = [ExtractionJob(ref, f"s{ref}", at, at, files, KNOWN_SCHEMA.empty_table()) for ref in range(uploads)]
    outcomes = [outcome for _, outcome in pool.extract(jobs)]
    assert [outcome.rows_read for outcome in outcomes if isinstance(outcome, Extraction)] == [1] * uploads

"""Hostile uploads: each ends with its reason code or its flaws, and none affects another upload."""

import gzip
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.extraction import pool, worker_handle
from akosha_assets.lake.ingestion.extraction.pool import (
    KNOWN_SCHEMA,
    Extraction,
    ExtractionJob,
    ExtractionPool,
    SourceFile,
)
from akosha_assets.lake.settings import LakeSettings
from tests import hostile

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIB = 1024**2

SMALL = LakeSettings(
    workers=2,
    upload_max_raw_bytes=64 * MIB,
    upload_max_rows=50_000,
    upload_max_field_bytes=8 * MIB,
    worker_memory_bytes=1024 * MIB,
    uploaded_vector_space="a model",
)


def job(path: Path, ref: int = 0) -> ExtractionJob:
    return ExtractionJob(
        ref, f"system-{ref}", AT, AT, (SourceFile(path.name, path.name, "etag", path),), KNOWN_SCHEMA.empty_table()
    )


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "sound.duckdb"
    hostile.sound(path)
    return path


def test_every_hostile_upload_is_rejected_with_its_reason_and_valid_uploads_are_ingested(
    tmp_path: Path, valid: Path
) -> None:
    jobs = []
    for place, (maker, _) in enumerate(hostile.REJECTED.values()):
        path = tmp_path / f"{place}.duckdb"
        maker(path)
        jobs += [job(path, place), job(valid, -place - 1)]

    with ExtractionPool(SMALL) as pool:
        outcomes = {job.ref: outcome for job, outcome in pool.extract(jobs)}

    reasons = {name: getattr(outcomes[place], "reason", "accepted") for place, name in enumerate(hostile.REJECTED)}
    assert reasons == {name: reason for name, (_, reason) in hostile.REJECTED.items()}
    for place in range(len(hostile.REJECTED)):
        neighbour = outcomes[-place - 1]
        assert isinstance(neighbour, Extraction), neighbour
        assert neighbour.rows["lifecycle/hot"].num_rows == 20


def test_harmless_flaws_are_counted_and_the_upload_is_ingested(tmp_path: Path) -> None:
    jobs = []
    for place, (maker, _) in enumerate(hostile.ACCEPTED.values()):
        path = tmp_path / f"{place}.duckdb"
        maker(path)
        jobs.append(job(path, place))

    with ExtractionPool(SMALL) as pool:
        outcomes = {job.ref: outcome for job, outcome in pool.extract(jobs)}

    for place, (name, (_, flaws)) in enumerate(hostile.ACCEPTED.items()):
        outcome = outcomes[place]
        assert isinstance(outcome, Extraction), (name, outcome)
        assert {code: outcome.flaws.get(code, 0) for code in flaws} == flaws, name
        for table in outcome.rows.values():
            assert "root:" not in str(table.to_pylist()), name


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExtractionPool]:
    monkeypatch.setattr(worker_handle, "GRACE_SECONDS", 0)
    with ExtractionPool(LakeSettings(workers=1, upload_seconds=1)) as pool:
        yield pool


def test_no_upload_is_rejected_when_a_used_worker_hangs(
    short_deadline: ExtractionPool, valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "GROUP_UPLOADS", 1)
    list(short_deadline.extract([job(valid)]))

    def jobs() -> Iterator[ExtractionJob]:
        os.kill(short_deadline._workers[0].process.pid, signal.SIGSTOP)
        yield job(valid, 1)
        yield job(valid, 2)

    outcomes = {job.ref: outcome for job, outcome in short_deadline.extract(jobs())}

    assert isinstance(outcomes[1], Extraction) and isinstance(outcomes[2], Extraction)


def test_an_upload_is_rejected_when_a_fresh_worker_hangs_on_it(short_deadline: ExtractionPool, valid: Path) -> None:
    list(short_deadline.extract([job(valid)]))
    (worker,) = short_deadline._workers
    worker.served = 0
    os.kill(worker.process.pid, signal.SIGSTOP)

    ((_, hung),) = short_deadline.extract([job(valid, 1)])

    assert isinstance(hung, UploadRejected) and hung.reason == "worker_timeout"


def test_an_upload_is_not_rejected_for_memory_that_earlier_uploads_leaked(
    valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExtractionPool(LakeSettings(workers=1)) as pool:
        list(pool.extract([job(valid)]))
        (worker,) = pool._workers
        # No memory is available, as if an upload had leaked all of it.
        used_bytes = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (used_bytes, used_bytes))
        ((_, outcome),) = pool.extract([job(valid, 1)])
        assert isinstance(outcome, Extraction)

        monkeypatch.setattr(worker_handle, "RETAINED_FRACTION", 1 << 60)
        (worker,) = pool._workers
        worker.idle_bytes -= 1
        list(pool.extract([job(valid, 2)]))
        assert worker not in pool._workers


def test_files_that_are_not_databases_do_not_end_the_worker(tmp_path: Path, valid: Path) -> None:
    damaged = tmp_path / "damaged.duckdb"
    content = valid.read_bytes()
    damaged.write_bytes(content[:20_000] + b"\xff" * 4000 + content[24_000:])
    short = tmp_path / "short.duckdb"
    short.write_bytes(content[:9_000])
    lite = tmp_path / "lite.sqlite"
    lite.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4000)
    with ExtractionPool(LakeSettings(workers=1)) as pool:
        list(pool.extract([job(valid)]))
        (worker,) = pool._workers
        for place, path in enumerate((short, lite, short, damaged), 1):
            ((_, outcome),) = pool.extract([job(path, place)])
            assert isinstance(outcome, UploadRejected) and outcome.reason == "database_unreadable", (path, outcome)
            ((_, outcome),) = pool.extract([job(valid, -place)])
            assert isinstance(outcome, Extraction)
        assert pool._workers == [worker]


@pytest.mark.parametrize("signal_number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_failed_worker_rejects_no_upload_of_a_group(
    short_deadline: ExtractionPool, valid: Path, signal_number: signal.Signals
) -> None:
    valid.write_bytes(gzip.compress(valid.read_bytes()))
    list(short_deadline.extract([job(valid)]))
    os.kill(short_deadline._workers[0].process.pid, signal_number)

    outcomes = list(short_deadline.extract([job(valid, ref) for ref in range(3)]))

    assert sorted(job.ref for job, _ in outcomes) == [0, 1, 2]
    assert all(isinstance(outcome, Extraction) for _, outcome in outcomes)


def test_an_upload_is_rejected_when_a_second_worker_dies_on_it(valid: Path) -> None:
    with ExtractionPool(LakeSettings(workers=1)) as pool:
        list(pool.extract([job(valid)]))

        def jobs() -> Iterator[ExtractionJob]:
            os.kill(pool._workers[0].process.pid, signal.SIGSTOP)
            yield job(valid, 1)
            os.kill(pool._workers[0].process.pid, signal.SIGKILL)
            yield job(valid, 2)

        assert all(isinstance(outcome, Extraction) for _, outcome in pool.extract(jobs()))

        died_before = pool._workers[0]
        died_before.served = 0
        os.kill(died_before.process.pid, signal.SIGSTOP)
        pool._retries.append(((job(valid, 3),), True))
        outcomes = pool.extract(iter([job(valid, 4)]))
        died_before.process.send_signal(signal.SIGKILL)
        by_ref = {job.ref: outcome for job, outcome in outcomes}

    rejected = by_ref[3]
    assert isinstance(rejected, UploadRejected) and rejected.reason == "worker_crashed"
    assert isinstance(by_ref[4], Extraction)


def test_an_upload_that_needs_too_much_processor_time_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "slow.duckdb"
    hostile.database(path, "CREATE TABLE numbers AS SELECT range AS n, 'text' AS t FROM range(1900000)")
    monkeypatch.setattr(worker_handle, "GRACE_SECONDS", 60)

    with ExtractionPool(LakeSettings(workers=1, upload_seconds=1)) as pool:
        ((_, outcome),) = pool.extract([job(path)])

    assert isinstance(outcome, UploadRejected) and outcome.reason == "worker_timeout"


def test_an_upload_that_needs_too_much_memory_is_rejected(tmp_path: Path, valid: Path) -> None:
    path = tmp_path / "heavy.duckdb"
    hostile.database(
        path,
        (
            "CREATE TABLE conversations_v2 AS SELECT 'id-' || i AS id, repeat(i::VARCHAR, 1000000) AS content FROM "
            "range(100, 200) r(i)"
        ),
    )

    with ExtractionPool(
        LakeSettings(workers=1, worker_memory_bytes=256 * MIB, upload_max_field_bytes=64 * MIB)
    ) as pool:
        outcomes = {job.ref: outcome for job, outcome in pool.extract([job(path, 1), job(valid, 2)])}

    heavy = outcomes[1]
    assert isinstance(heavy, UploadRejected) and heavy.reason == "worker_memory"
    assert isinstance(outcomes[2], Extraction)


def test_a_write_ahead_log_beside_a_database_is_never_replayed(tmp_path: Path) -> None:
    path = tmp_path / "reflection.duckdb"
    script = f"""
import duckdb, os
connection = duckdb.connect({str(path)!r})
connection.execute("SET checkpoint_threshold = '1GB'")
connection.execute({hostile.CONVERSATIONS!r})
connection.execute("INSERT INTO conversations_v2 VALUES ('checkpointed', 'a', NULL, NULL)")
connection.execute("CHECKPOINT")
connection.execute("INSERT INTO conversations_v2 VALUES ('in the log', 'a', NULL, NULL)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert path.with_name("reflection.duckdb.wal").exists()

    with ExtractionPool(LakeSettings(workers=1)) as pool:
        ((_, outcome),) = pool.extract([job(path)])

    assert isinstance(outcome, Extraction)
    assert outcome.seen.column("id").to_pylist() == ["checkpointed"]


@pytest.fixture(scope="module")
def other_upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other_upload") / "sound.duckdb"
    hostile.sound(path)
    return path


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[ExtractionPool]:
    with ExtractionPool(SMALL) as pool:
        yield pool


PLACES = st.integers(0, 2**31)
MUTATIONS = st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=16)), min_size=1, max_size=6)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damages=st.lists(
        st.tuples(MUTATIONS, st.booleans(), st.sampled_from([None, None, 100_000, 300_000])), min_size=4, max_size=4
    )
)
def test_an_upload_with_any_changed_bytes_is_ingested_or_rejected_and_affects_no_other(
    shared_pool: ExtractionPool,
    other_upload: Path,
    tmp_path: Path,
    damages: list[tuple[list[tuple[int, bytes]], bool, int | None]],
) -> None:
    jobs = [job(other_upload, -1)]
    for place, (mutations, repaired, length) in enumerate(damages):
        raw = bytearray(other_upload.read_bytes())
        for start, content in mutations:
            start %= len(raw) - 16
            raw[start : start + len(content)] = content
        path = tmp_path / f"{place}.duckdb"
        changed = hostile.with_repaired_checksums(bytes(raw)) if repaired else bytes(raw)
        path.write_bytes(changed[:length])
        jobs.append(job(path, place))

    outcomes = {job.ref: outcome for job, outcome in shared_pool.extract(jobs)}

    assert isinstance(outcomes.pop(-1), Extraction)
    assert (
        all(isinstance(outcome, (Extraction, UploadRejected)) for outcome in outcomes.values()) and len(outcomes) == 4
    )


TYPES = {
    "id": "VARCHAR",
    "content": "VARCHAR",
    "metadata": "VARCHAR",
    "importance_score": "FLOAT",
    "timestamp": "TIMESTAMP",
    "tags": "VARCHAR[]",
    "surprise": "VARCHAR",
}
VALUES = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text),
        "content": st.none() | st.text(max_size=200),
        "metadata": st.none() | st.text(max_size=30) | st.just('{"source_session": "s", "timestamp": 7}'),
        "importance_score": st.none() | st.floats(width=32),
        "timestamp": st.none() | st.datetimes(),
        "tags": st.none() | st.lists(st.none() | st.text(max_size=9), max_size=3),
        "surprise": st.none() | st.text(max_size=20),
    }
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES, min_size=1, max_size=6, unique_by=lambda row: row["id"]))
@example(rows=[dict.fromkeys(TYPES, None) | {"id": "a", "content": "a\0b"}])
def test_a_row_with_any_values_is_ingested_once_and_then_known(
    shared_pool: ExtractionPool, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path / "values.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(path) as connection:
        connection.execute(
            f"CREATE TABLE reflections_v2 ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})"
        )
        connection.executemany(
            "INSERT INTO reflections_v2 VALUES (?, ?, ?, ?, ?, ?, ?)", [[row[name] for name in TYPES] for row in rows]
        )

    ((_, first),) = shared_pool.extract([job(path)])
    assert isinstance(first, Extraction), first
    known = first.seen.append_column(
        "snapshot_at", pa.repeat(pa.scalar(AT - timedelta(days=1), pa.timestamp("us", tz="UTC")), len(rows))
    )
    known = known.append_column("is_absent", pa.repeat(False, len(rows)))
    known = known.append_column("memory_id", pa.nulls(len(rows), pa.string()))
    ((_, again),) = shared_pool.extract([replace(job(path), known=known)])

    assert {row["id"]: row["text"] for row in first.rows["lifecycle/hot"].to_pylist()} == {
        row["id"]: (row["content"] or "").replace("\0", "\ufffd") for row in rows
    }
    if any("\0" in (row["content"] or "") for row in rows):
        assert first.flaws["text_with_nul"] >= 1
    assert isinstance(again, Extraction) and again.rows == {}

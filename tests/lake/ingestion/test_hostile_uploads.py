"""Hostile uploads: each ends with its reason code or its flaws, and none of them harms another."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion import worker_process
from akosha_assets.lake.ingestion.extraction import KNOWN_SCHEMA, Extraction, ExtractionJob, ExtractionPool, SourceFile
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
    return ExtractionJob(ref, f"system-{ref}", AT, AT, (SourceFile(path.name, path.name, "etag", path),), KNOWN_SCHEMA.empty_table())


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.duckdb"
    hostile.sound(path)
    return path


def test_every_hostile_upload_is_rejected_for_its_own_reason_and_all_others_get_in(tmp_path: Path, sound: Path) -> None:
    jobs = []
    for place, (maker, _) in enumerate(hostile.REJECTED.values()):
        path = tmp_path / f"{place}.duckdb"
        maker(path)
        jobs += [job(path, place), job(sound, -place - 1)]

    with ExtractionPool(SMALL) as pool:
        outcomes = {job.ref: outcome for job, outcome in pool.extract(jobs)}

    reasons = {name: getattr(outcomes[place], "reason", "accepted") for place, name in enumerate(hostile.REJECTED)}
    assert reasons == {name: reason for name, (_, reason) in hostile.REJECTED.items()}
    for place in range(len(hostile.REJECTED)):
        neighbour = outcomes[-place - 1]
        assert isinstance(neighbour, Extraction), neighbour
        assert neighbour.rows["lifecycle/hot"].num_rows == 20


def test_oddities_that_harm_nobody_are_counted_and_taken_in(tmp_path: Path) -> None:
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
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExtractionPool]:
    monkeypatch.setattr(worker_process, "GRACE_SECONDS", 0)
    with ExtractionPool(LakeSettings(workers=1, upload_seconds=1)) as pool:
        yield pool


def test_a_worker_that_hangs_costs_only_the_upload_it_held(impatient: ExtractionPool, sound: Path) -> None:
    list(impatient.extract([job(sound)]))

    def jobs() -> Iterator[ExtractionJob]:
        os.kill(impatient._workers[0].process.pid, signal.SIGSTOP)
        yield job(sound, 1)
        yield job(sound, 2)

    outcomes = {job.ref: outcome for job, outcome in impatient.extract(jobs())}

    hung = outcomes[1]
    assert isinstance(hung, UploadRejected) and hung.reason == "worker_timeout"
    assert isinstance(outcomes[2], Extraction)


def test_an_upload_is_blamed_when_a_second_worker_dies_on_it(sound: Path) -> None:
    with ExtractionPool(LakeSettings(workers=1)) as pool:
        list(pool.extract([job(sound)]))

        def jobs() -> Iterator[ExtractionJob]:
            os.kill(pool._workers[0].process.pid, signal.SIGSTOP)
            yield job(sound, 1)
            os.kill(pool._workers[0].process.pid, signal.SIGKILL)
            yield job(sound, 2)

        assert all(isinstance(outcome, Extraction) for _, outcome in pool.extract(jobs()))

        died_before = pool._workers[0]
        os.kill(died_before.process.pid, signal.SIGSTOP)
        pool._again.append((job(sound, 3), True))
        outcomes = pool.extract(iter([job(sound, 4)]))
        died_before.process.send_signal(signal.SIGKILL)
        found = {job.ref: outcome for job, outcome in outcomes}

    blamed = found[3]
    assert isinstance(blamed, UploadRejected) and blamed.reason == "worker_crashed"
    assert isinstance(found[4], Extraction)


def test_an_upload_that_needs_too_much_processor_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "slow.duckdb"
    hostile.database(path, "CREATE TABLE numbers AS SELECT range AS n, 'text' AS t FROM range(1900000)")
    monkeypatch.setattr(worker_process, "GRACE_SECONDS", 60)

    with ExtractionPool(LakeSettings(workers=1, upload_seconds=1)) as pool:
        ((_, outcome),) = pool.extract([job(path)])

    assert isinstance(outcome, UploadRejected) and outcome.reason == "worker_timeout"


def test_an_upload_that_needs_too_much_memory_is_given_up(tmp_path: Path, sound: Path) -> None:
    path = tmp_path / "heavy.duckdb"
    hostile.database(
        path, "CREATE TABLE conversations_v2 AS SELECT 'id-' || i AS id, repeat(i::VARCHAR, 1000000) AS content FROM range(100, 200) r(i)"
    )

    with ExtractionPool(LakeSettings(workers=1, worker_memory_bytes=256 * MIB, upload_max_field_bytes=64 * MIB)) as pool:
        outcomes = {job.ref: outcome for job, outcome in pool.extract([job(path, 1), job(sound, 2)])}

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
connection.execute("INSERT INTO conversations_v2 VALUES ('kept', 'a', NULL, NULL)")
connection.execute("CHECKPOINT")
connection.execute("INSERT INTO conversations_v2 VALUES ('in the log', 'a', NULL, NULL)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert path.with_name("reflection.duckdb.wal").exists()

    with ExtractionPool(LakeSettings(workers=1)) as pool:
        ((_, outcome),) = pool.extract([job(path)])

    assert isinstance(outcome, Extraction)
    assert outcome.seen.column("id").to_pylist() == ["kept"]

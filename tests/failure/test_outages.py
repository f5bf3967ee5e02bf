"""While a store, a disk or the ledger fails, uploads wait without losing an attempt, and are ingested afterwards."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from deltalake.exceptions import DeltaError

from akosha_assets.lake import commits, objects, store_check, tables
from akosha_assets.lake.catalog import CLIENT, Lake
from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable, LocalStorageFailed, StoreUnavailable
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.extraction import scratch
from akosha_assets.lake.ingestion.inbox import fetching, listing
from akosha_assets.lake.ingestion.ledger import claims, outages
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.merge import reconcile
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import conditions
from tests.factories import make_upload
from tests.faulty_bucket import Faults, faulty_bucket

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SYSTEMS = ("a", "b", "c")
ANSWERS = ((403, "AccessDenied"), (400, "ExpiredToken"), (503, "SlowDown"), (500, "InternalError"))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    # Shorter time-outs of clients than in production.
    monkeypatch.setattr(objects, "RETRY", {**objects.RETRY, "max_retries": 1, "retry_timeout": timedelta(seconds=1)})
    monkeypatch.setitem(CLIENT, "max_retries", "1")
    monkeypatch.setitem(CLIENT, "retry_timeout", "1s")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with faulty_bucket("lake", monkeypatch) as found:
        yield found


def put_uploads(settings: LakeSettings, *, hour: int, bucket: bool = False) -> None:
    for system in SYSTEMS:
        texts = [f"memory {number} of {system}" for number in range(hour + 2)]
        make_upload(settings.home / "inbox", system, reflections=texts, at=AT + timedelta(hours=hour))
    if bucket:
        for path in (settings.home / "inbox").rglob("*"):
            if path.is_file():
                boto3.client("s3").upload_file(str(path), "lake", f"inbox/{path.relative_to(settings.home / 'inbox')}")
    listing.sweep(settings, Ledger.open(settings), now=datetime.now(UTC), whole=True)


def ingest(settings: LakeSettings) -> Any:
    return arrivals.ingest(Lake(settings), Ledger.open(settings), run_id="run")


def states(settings: LakeSettings) -> dict[tuple[str, int], int]:
    counted: dict[tuple[str, int], int] = {}
    for row in Ledger.open(settings).uploads().uploads:
        counted[row.state, row.attempts] = counted.get((row.state, row.attempts), 0) + 1
    return counted


def assert_waits_and_recovers(settings: LakeSettings, kind: str, *, ingested: int) -> None:
    """After an outage every upload waits unchanged, the outage is recorded, and the next run ingests all."""
    ledger = Ledger.open(settings)
    assert states(settings) == {**({("ingested", 0): ingested} if ingested else {}), ("waiting", 0): len(SYSTEMS)}
    outage = outages.find(ledger, "ingest")
    assert outage is not None
    assert outage.kind == kind
    (condition,) = conditions.of_outages(ledger)
    assert (condition.key, condition.runbook) == (
        "outage/ingest",
        "disk-full" if kind == "LocalStorageFailed" else "object-storage-down",
    )
    assert not claims.anything_due(ledger, now=outage.last_at)
    assert claims.anything_due(ledger, now=outage.retry_at + timedelta(minutes=1))


def assert_everything_is_ingested(settings: LakeSettings) -> None:
    ingest(settings)
    assert {state for state, _ in states(settings)} == {"ingested"}
    assert max(attempts for _, attempts in states(settings)) == 0
    assert outages.find_all(Ledger.open(settings)) == []
    identities = Lake(settings).select("lifecycle/hot", ["system_id", "id"]).to_pylist()
    assert len(identities) == len({tuple(row.values()) for row in identities})


@pytest.mark.parametrize(("status", "code"), ANSWERS[1:3])
def test_a_lake_that_refuses_writes_costs_no_attempt(tmp_path: Path, faults: Faults, status: int, code: str) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, lake_url=f"{faults.url}/lake", embedding_seconds=0)
    put_uploads(settings, hour=0)
    ingest(settings)
    put_uploads(settings, hour=1)
    faults.begin(status, code, methods=("PUT", "POST"), path="/lake/lake/lifecycle/hot")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="small object cannot be written"):
            ingest(settings)
    assert faults.refused
    assert_waits_and_recovers(settings, "StoreUnavailable", ingested=3)
    assert outages.find(Ledger.open(settings), "ingest").failures == 2
    faults.end()
    assert_everything_is_ingested(settings)


def test_a_lake_that_refuses_reads_costs_no_attempt(tmp_path: Path, faults: Faults) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, lake_url=f"{faults.url}/lake", embedding_seconds=0)
    put_uploads(settings, hour=0)
    ingest(settings)
    put_uploads(settings, hour=1)
    faults.begin(403, "AccessDenied", methods=("GET", "HEAD"), path="/lake/")
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    assert_waits_and_recovers(settings, "StoreUnavailable", ingested=3)
    faults.end()
    assert_everything_is_ingested(settings)


@pytest.mark.parametrize(("status", "code"), ANSWERS)
def test_an_inbox_that_refuses_reads_costs_no_attempt(tmp_path: Path, faults: Faults, status: int, code: str) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, inbox_url=f"{faults.url}/inbox", embedding_seconds=0)
    put_uploads(settings, hour=0, bucket=True)
    faults.begin(status, code, methods=("GET", "HEAD"), path="/uploads/")
    with pytest.raises(StoreUnavailable, match="3 uploads could not be read and wait"):
        ingest(settings)
    assert_waits_and_recovers(settings, "StoreUnavailable", ingested=0)
    faults.end()
    assert_everything_is_ingested(settings)


def test_an_upload_that_cannot_be_fetched_blocks_no_other_and_is_quarantined_in_the_end(
    tmp_path: Path, faults: Faults
) -> None:
    settings = LakeSettings(
        home=tmp_path, workers=1, inbox_url=f"{faults.url}/inbox", embedding_seconds=0, max_attempts=2
    )
    put_uploads(settings, hour=0, bucket=True)
    faults.begin(403, "AccessDenied", methods=("GET",), path="systems/a/uploads")
    with pytest.raises(StoreUnavailable, match="1 uploads could not be read"):
        ingest(settings)
    assert states(settings) == {("ingested", 0): 2, ("waiting", 1): 1}
    assert outages.find_all(Ledger.open(settings)) == []
    # Only this upload waits now, so nothing shows that the inbox works: the attempt is not counted.
    ledger = Ledger.open(settings)
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE uploads SET not_before = NULL")
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    assert states(settings) == {("ingested", 0): 2, ("waiting", 1): 1}
    put_uploads(settings, hour=1, bucket=True)
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE uploads SET not_before = NULL")
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    assert ("quarantined", 2) in states(settings)


def test_a_missing_inbox_folder_costs_no_attempt(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    put_uploads(settings, hour=0)
    (tmp_path / "inbox").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    # A mount point without its file system is an empty folder.
    (tmp_path / "inbox").mkdir()
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    assert_waits_and_recovers(settings, "StoreUnavailable", ingested=0)
    (tmp_path / "inbox").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "inbox")
    assert_everything_is_ingested(settings)


def test_a_full_disk_costs_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    put_uploads(settings, hour=0)

    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_download", fail)
        with pytest.raises(LocalStorageFailed, match="No space left on device"):
            ingest(settings)
    assert_waits_and_recovers(settings, "LocalStorageFailed", ingested=0)
    assert_everything_is_ingested(settings)


def test_an_upload_that_cannot_be_read_is_not_blamed_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    make_upload(tmp_path / "inbox", "a", reflections=["x"])
    for file in (tmp_path / "inbox").rglob("*.duckdb*"):
        file.write_bytes(b"no database")
    listing.sweep(settings, Ledger.open(settings), now=datetime.now(UTC), whole=True)
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "FULL_BYTES", 2**60)
        with pytest.raises(LocalStorageFailed, match="bytes free"):
            ingest(settings)
    assert states(settings) == {("waiting", 0): 1}
    ingest(settings)
    assert states(settings) == {("quarantined", 0): 1}


def test_a_lake_folder_that_cannot_be_written_costs_no_attempt(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    put_uploads(settings, hour=0)
    ingest(settings)
    put_uploads(settings, hour=1)
    log, aside = tmp_path / "lake/lifecycle/hot/_delta_log", tmp_path / "log"
    # The folder of the log is a file, so that nobody, root included, can create files in it.
    log.rename(aside)
    log.write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        ingest(settings)
    assert_waits_and_recovers(settings, "StoreUnavailable", ingested=3)
    log.unlink()
    aside.rename(log)
    assert_everything_is_ingested(settings)


def test_a_missing_data_file_is_reported_as_a_fault_of_the_table(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    put_uploads(settings, hour=0)
    ingest(settings)
    table = Lake(settings).open("lifecycle/hot")
    assert table is not None
    assert store_check.find_failure(table.table_uri, tables.data_paths(table)) is None
    file = next((tmp_path / "lake/lifecycle/hot").rglob("*.parquet"))
    file.unlink()
    assert "data files are missing" in (store_check.find_failure(table.table_uri, tables.data_paths(table)) or "")
    assert not list((tmp_path / "lake").rglob("*write_check*"))


def test_rows_that_cannot_be_written_are_found_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0, max_attempts=2)
    put_uploads(settings, hour=0)
    append = commits.append

    def refuse(uri: str, rows: Any, *rest: Any, **options: Any) -> int:
        if "system_id" in rows.schema.names and "b" in rows["system_id"].to_pylist():
            raise DeltaError("these rows cannot be written")
        return append(uri, rows, *rest, **options)

    monkeypatch.setattr(commits, "append", refuse)
    ingest(settings)
    assert states(settings) == {("ingested", 0): 2, ("quarantined", 2): 1}


def test_an_internal_error_quarantines_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0, batch_uploads=1)
    for number in range(7):
        make_upload(tmp_path / "inbox", f"s{number}", reflections=["x"])
    listing.sweep(settings, Ledger.open(settings), now=datetime.now(UTC), whole=True)

    def break_down(*_: object, **__: object) -> None:
        raise KeyError("a fault in the code")

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "compare", break_down)
        with pytest.raises(KeyError):
            ingest(settings)
    assert {state for state, _ in states(settings)} == {"waiting"}
    with Ledger.open(settings).write() as connection:
        connection.exec_driver_sql("UPDATE uploads SET not_before = NULL")
    ingest(settings)
    assert {state for state, _ in states(settings)} == {"ingested"}


def test_a_locked_ledger_is_unavailable_and_works_afterwards(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    put_uploads(settings, hour=0)
    ledger = Ledger.open(settings)

    def lock(step: str) -> None:
        if step == "before_commit":
            with ledger.read() as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout = 1")
            holder.execute("BEGIN IMMEDIATE")

    holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    # Connections of the ledger do not wait for a lock here; otherwise they wait 30 s.
    for _ in range(2):
        with ledger.read() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    pool: Any = ledger.engine.pool
    create = pool._creator
    pool._creator = lambda *arguments: _impatient(create(*arguments))
    with pytest.raises(LedgerUnavailable, match="locked"):
        arrivals.ingest(Lake(settings), ledger, run_id="run", on_step=lock)
    holder.execute("ROLLBACK")
    holder.close()
    claims.recover(Ledger.open(settings), lambda _: None, now=datetime.now(UTC) + timedelta(days=1))
    ingest(settings)
    assert {state for state, _ in states(settings)} == {"ingested"}


def _impatient(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA busy_timeout = 1")
    return connection


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_ledger_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    settings = LakeSettings(home=tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(LedgerDamaged, match=r"ledger\.sqlite is damaged: .*akosha ledger rebuild"):
        Ledger.open(settings).close()


def test_a_ledger_with_lost_tables_is_damaged(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path)
    Ledger.open(settings).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("DROP TABLE uploads")
    with pytest.raises(LedgerDamaged, match="no such table"):
        Ledger.open(settings).uploads()


def test_a_ledger_of_a_later_version_is_named(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path)
    Ledger.open(settings).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerDamaged, match="expected a ledger of this version"):
        Ledger.open(settings)

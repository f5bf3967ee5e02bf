"""A backup is consistent across tables and ledger; a restore is verified against it."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import BackupDamaged, InvalidRequest, NotFound, TableContended
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep import backup as backups
from akosha_assets.lake.upkeep import ledger_copy
from akosha_assets.lake.upkeep.backup import backup, prune, store_of
from akosha_assets.lake.upkeep.ledger_copy import copy_in, copy_out, counts
from akosha_assets.lake.upkeep.restore import restore
from akosha_assets.lake.upkeep.restore_drill import drill
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store
from tests.postgres import postgresql

AT = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return LakeSettings(home=tmp_path / "home", backup_url=str(tmp_path / "backup"))


@pytest.fixture
def ledger(settings: LakeSettings) -> Iterator[Ledger]:
    ledger = Ledger.open(settings)
    remember(ledger, "upload-1")
    yield ledger
    ledger.close()


def remember(ledger: Ledger, upload_id: str) -> None:
    ledger.add(
        [FoundUpload("system-1", upload_id, "v1", f"systems/system-1/uploads/{upload_id}/", "etag", 10, NOW)],
        found_by="sweep",
        now=NOW,
    )


def elsewhere(settings: LakeSettings, name: str = "other") -> LakeSettings:
    return settings.model_copy(update={"home": settings.home.parent / name})


def test_an_empty_lake_becomes_the_one_that_was_backed_up(lake: Lake, ledger: Ledger, settings: LakeSettings) -> None:
    store(lake, hot_rows(days_ago(1), 50))
    store(lake, hot_rows(days_ago(10), 50, first=100, batch=2), batch=2)
    age_day(lake, days_ago(10), move=Move(TierPolicy.of(settings), NOW, "run"), today=TODAY)
    made = backup(lake, ledger, now=AT)
    other = elsewhere(settings)
    assert restore(other).rows == made.rows
    for address in ("lifecycle/hot", "lifecycle/warm"):
        columns = lake.spec(address).schema.names
        assert Lake(other).select(address, columns).sort_by("id").equals(lake.select(address, columns).sort_by("id"))
    restored = Ledger.open(other)
    assert [row.upload_id for row in restored.uploads().uploads] == ["upload-1"]
    restored.close()
    # Fences came along, so a writer that was ahead of the backup is still known.
    assert Lake(other).open("lifecycle/hot").transaction_version("ingest/test") == 2
    store(Lake(other), hot_rows(days_ago(1), 5, first=900, batch=3), batch=3)


def test_unchanged_files_are_not_copied_again(lake: Lake, ledger: Ledger, settings: LakeSettings) -> None:
    store(lake, hot_rows(days_ago(1), 50))
    assert backup(lake, ledger, now=AT).files_copied == 2 + 1
    assert backup(lake, ledger, now=AT + timedelta(days=1)).files_copied == 0
    store(lake, hot_rows(days_ago(1), 50, first=100, batch=2), batch=2)
    assert backup(lake, ledger, now=AT + timedelta(days=2)).files_copied == 2
    assert drill(settings).rows == 100


def test_the_drill_fails_when_a_byte_changed_or_a_file_is_missing(
    lake: Lake, ledger: Ledger, settings: LakeSettings
) -> None:
    with pytest.raises(NotFound):
        drill(settings)
    store(lake, hot_rows(days_ago(1), 50))
    backup(lake, ledger, now=AT)
    [file] = (settings.home.parent / "backup/files").rglob("*.zstd.parquet")
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(BackupDamaged, match="SHA-256"):
        drill(settings)
    file.unlink()
    with pytest.raises(BackupDamaged, match="holds nothing"):
        drill(settings)


def test_a_restore_that_was_stopped_is_finished_by_the_next(
    lake: Lake, ledger: Ledger, settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(lake, hot_rows(days_ago(1), 50))
    backup(lake, ledger, now=AT)
    other = elsewhere(settings)
    with monkeypatch.context() as patched:
        patched.setattr("akosha_assets.lake.upkeep.restore.copy_in", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore(other)
    assert restore(other).rows == 50
    with pytest.raises(InvalidRequest, match="is not empty"):
        restore(other)


def test_tables_that_change_while_the_ledger_is_copied_are_read_again(
    lake: Lake, ledger: Ledger, settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(lake, hot_rows(days_ago(1), 5))
    writes = iter(range(2, 4))
    copy = ledger_copy.copy_out

    def busy(given: Ledger, to: Path) -> dict[str, int]:
        rows = copy(given, to)
        if number := next(writes, 0):
            store(lake, hot_rows(days_ago(1), 5, first=number * 10, batch=number), batch=number)
        return rows

    monkeypatch.setattr(backups, "copy_out", busy)
    assert backup(lake, ledger, now=AT).rows == 15
    writes = iter(range(4, 99))
    monkeypatch.setattr(backups, "CUT_ATTEMPTS", 3)
    with pytest.raises(TableContended):
        backup(lake, ledger, now=AT)


def test_old_backups_are_deleted_with_the_files_that_only_they_reference(
    lake: Lake, ledger: Ledger, settings: LakeSettings
) -> None:
    store(lake, hot_rows(days_ago(10), 50))
    backup(lake, ledger, now=AT)
    age_day(lake, days_ago(10), move=Move(TierPolicy.of(settings), NOW, "run"), today=TODAY)
    backup(lake, ledger, now=AT + timedelta(days=1))
    place = store_of(settings)
    later = datetime.now(UTC) + timedelta(days=60)
    assert prune(place, keep_after=AT - timedelta(days=1), now=later) == (0, 0)
    assert prune(place, keep_after=later, now=later)[0] == 1
    assert backups.backups(place) == ["20261103T000000Z"]
    assert drill(settings).rows >= 50


def test_without_a_backup_location_the_error_names_the_setting(tmp_path: Path, lake: Lake, ledger: Ledger) -> None:
    with pytest.raises(InvalidRequest, match="AKOSHA_BACKUP_URL"):
        backup(Lake(LakeSettings(home=tmp_path)), ledger, now=AT)


def test_a_ledger_goes_through_postgresql_and_back(tmp_path: Path, ledger: Ledger) -> None:
    copy_out(ledger, tmp_path / "one.sqlite")
    with tempfile.TemporaryDirectory(prefix="akosha-pg-") as folder, postgresql(Path(folder)) as url:
        through(LakeSettings(home=tmp_path / "pg", ledger_url=url), tmp_path)


def through(there: LakeSettings, tmp_path: Path) -> None:
    copy_in(there, tmp_path / "one.sqlite")
    with pytest.raises(InvalidRequest, match="knows 1 uploads already"):
        copy_in(there, tmp_path / "one.sqlite")
    moved = Ledger.open(there)
    remember(moved, "upload-2")
    assert copy_out(moved, tmp_path / "two.sqlite") == counts(tmp_path / "one.sqlite") | {
        "uploads": 2,
        "systems": moved_systems(moved),
    }
    moved.close()


def moved_systems(ledger: Ledger) -> Any:
    from sqlalchemy import func, select

    from akosha_assets.lake.ingestion.ledger.schema import systems

    with ledger.read() as connection:
        return connection.scalar(select(func.count()).select_from(systems))

"""The listing of the inbox: any names are found, and a paused sweep continues where it stopped."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.inbox.sweep_record import SweepOutcome, read_record
from akosha_assets.lake.ingestion.ledger import outages
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import conditions

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger whose inbox folder does not exist. Ticks are so short that they end after one upload."""
    opened = Ledger.open(LakeSettings(home=tmp_path / "home", inbox_url=str(tmp_path / "inbox"), tick_seconds=1e-9))
    yield opened
    opened.close()


def put_uploads(ledger: Ledger, count: int) -> None:
    store = ObjectStore(ledger.settings.inbox())
    for number in range(count):
        store.put(f"systems/laptop-ada/uploads/20261123_11372{number}_laptop-ada/manifest.json", b"{}")


def test_names_that_are_not_unicode_are_quarantined_and_do_not_stop_a_sweep(tmp_path: Path) -> None:
    names = [b"a/uploads/u", b"b\xff/uploads/u", b"c/uploads/\xfe", b"d\n/uploads/u", b"e/uploads/u"]
    for name in names:
        folder = os.path.join(os.fsencode(tmp_path), b"inbox", b"systems", name)
        os.makedirs(folder)
        with open(os.path.join(folder, b"manifest.json"), "w") as manifest:
            manifest.write("{}")
    # Such a short tick pauses after each upload.
    settings = LakeSettings(home=tmp_path, tick_seconds=1e-9)
    ledger = Ledger.open(settings)
    sweeps = [sweep(settings, ledger, now=datetime.now(UTC)) for _ in names]
    assert [one.added for one in sweeps] == [1] * len(names)
    assert [one.finished for one in sweeps] == [False] * (len(names) - 1) + [True]
    assert {(one.system_id, one.upload_id, one.reason) for one in ledger.uploads().uploads} == {
        ("a", "u", None),
        ("b\\udcff", "u", "system_id_invalid"),
        ("c", "\\udcfe", "upload_id_invalid"),
        ("d\n", "u", "system_id_invalid"),
        ("e", "u", None),
    }
    ledger.close()


def test_an_upload_of_very_many_objects_is_listed_in_parts_and_ingested_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "OBJECTS_PER_UPLOAD", 3)
    store = ObjectStore(ledger.settings.inbox())
    for name in ("a", "b", "c", "d", "e", "manifest.json", "z"):
        store.put(f"systems/laptop-ada/uploads/20261123_113720_laptop-ada/{name}", b"{}")
    for _ in range(4):
        while not sweep(ledger.settings, ledger, now=NOW).finished:
            pass
    assert [one.state for one in ledger.uploads().uploads] == ["waiting"]
    with ledger.write() as connection:
        connection.execute(sa.update(uploads).values(state="ingested"))
    for _ in range(4):
        while not sweep(ledger.settings, ledger, now=NOW).finished:
            pass
    assert [one.state for one in ledger.uploads().uploads] == ["ingested"]


def test_an_inbox_folder_that_does_not_exist_is_an_outage_and_not_an_empty_inbox(ledger: Ledger) -> None:
    with pytest.raises(StoreUnavailable, match=r"no folder .*inbox; mount .*, create it, or set AKOSHA_INBOX_URL"):
        sweep(ledger.settings, ledger, now=NOW, whole=True)
    assert outages.find(ledger, "discovery") is not None
    assert not backlog.is_caught_up(backlog.measure(ledger, now=NOW), ledger.settings)
    folder = ObjectStore(ledger.settings.inbox()).folder
    assert folder is not None
    folder.mkdir()
    # Nothing was ever uploaded.
    assert sweep(ledger.settings, ledger, now=NOW, whole=True).listed == 0
    assert outages.find(ledger, "discovery") is None
    put_uploads(ledger, 1)
    assert sweep(ledger.settings, ledger, now=NOW, whole=True).added == 1
    shutil.rmtree(folder / "systems")
    with pytest.raises(StoreUnavailable, match="is its file system mounted"):
        sweep(ledger.settings, ledger, now=NOW, whole=True)


def test_the_inbox_counts_as_listed_from_the_start_of_a_completed_sweep(ledger: Ledger) -> None:
    put_uploads(ledger, 3)
    outcomes = []
    for tick in range(4):
        sweep(ledger.settings, ledger, now=NOW + tick * MINUTE)
        record = read_record(ledger)
        assert record is not None
        outcomes.append((record.outcome, record.began_at, backlog.measure(ledger, now=NOW + tick * MINUTE).swept_at))
    assert outcomes == [
        (SweepOutcome.PAUSED, NOW, None),
        (SweepOutcome.PAUSED, NOW, None),
        (SweepOutcome.ENDED, NOW, NOW),
        (SweepOutcome.PAUSED, NOW + 3 * MINUTE, NOW),
    ]
    # A shorter sweep that began later and ended earlier.
    sweep(ledger.settings, ledger, now=NOW + 5 * MINUTE, whole=True)
    for tick in (6, 7):
        sweep(ledger.settings, ledger, now=NOW + tick * MINUTE)
    assert backlog.measure(ledger, now=NOW + 7 * MINUTE).swept_at == NOW + 5 * MINUTE


def test_a_failed_sweep_is_recorded_with_its_reason_and_does_not_count(ledger: Ledger) -> None:
    put_uploads(ledger, 1)
    sweep(ledger.settings, ledger, now=NOW, whole=True)
    folder = ObjectStore(ledger.settings.inbox()).folder
    assert folder is not None
    shutil.rmtree(folder)
    late = NOW + timedelta(seconds=ledger.settings.backlog_age_seconds + 1)
    with pytest.raises(StoreUnavailable):
        sweep(ledger.settings, ledger, now=late)
    record = read_record(ledger)
    assert record is not None
    assert (record.outcome, record.began_at) == (SweepOutcome.FAILED, late)
    assert "no folder" in record.reason
    measured = backlog.measure(ledger, now=late)
    assert measured.swept_at == NOW
    (condition,) = conditions.of_sweeps(ledger, measured)
    assert "is failed: " in condition.detail
    assert "no folder" in condition.detail


def test_a_sweep_recorded_by_a_clock_that_was_ahead_does_not_count(ledger: Ledger) -> None:
    put_uploads(ledger, 1)
    sweep(ledger.settings, ledger, now=NOW + timedelta(days=3650), whole=True)
    assert backlog.is_unswept(backlog.measure(ledger, now=NOW), ledger.settings)
    sweep(ledger.settings, ledger, now=NOW, whole=True)
    assert not backlog.is_unswept(backlog.measure(ledger, now=NOW), ledger.settings)
    assert ledger.remembered(SWEEP_ENDED) == NOW.isoformat()

"""A ledger belongs to one lake, and a lost one is restored from the tables and the inbox."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, LedgerMismatch
from akosha_assets.lake.ingestion import arrivals, ledger_rebuild
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEPT = {"id": "R0", "content": "kept"}


def take_in(settings: LakeSettings) -> Ledger:
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=NOW)
    arrivals.ingest(Lake(settings), ledger, run_id="test")
    return ledger


def stored(lake: Lake) -> list[tuple[str, str]]:
    return sorted((row["system_id"], row["text"]) for row in lake.select(HOT.address, ["system_id", "text"]).to_pylist())


def test_a_lost_ledger_is_refused_then_restored_and_nothing_is_stored_twice(settings: LakeSettings, lake: Lake) -> None:
    inbox = settings.home / "inbox"
    for system in ("a", "b"):
        make_upload(inbox, system, reflections=[KEPT, {"id": "R1", "content": "changing"}], at=AT)
    take_in(settings).close()
    removed = next((inbox / "systems/b/uploads").iterdir())
    for path in removed.iterdir():
        path.unlink()
    make_upload(inbox, "a", reflections=[KEPT, {"id": "R1", "content": "changed"}, "fresh"], at=AT + timedelta(hours=1))
    for path in settings.home.glob("ledger.sqlite*"):
        path.unlink()

    with pytest.raises(LedgerMismatch, match="akosha ledger rebuild"):
        take_in(settings)
    ledger = Ledger.open(settings)
    assert ledger_rebuild.rebuild(lake, ledger, now=NOW) == ledger_rebuild.Rebuilt(ingested=2, waiting=1, systems=2)
    arrivals.ingest(lake, ledger, run_id="after")
    assert stored(lake) == [("a", "changed"), ("a", "fresh"), ("a", "kept"), ("b", "changing"), ("b", "kept")]
    assert ledger.receipt(removed.name).removed_at is not None


def test_a_ledger_that_has_taken_uploads_in_is_not_rebuilt(settings: LakeSettings, lake: Lake) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["kept"], at=AT)
    with pytest.raises(InvalidRequest, match="expected a new ledger"):
        ledger_rebuild.rebuild(lake, take_in(settings), now=NOW)


def test_the_ledger_of_another_lake_is_refused(settings: LakeSettings, tmp_path: Path) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["kept"], at=AT)
    take_in(settings)
    with pytest.raises(LedgerMismatch, match="belongs to lake"):
        take_in(LakeSettings(home=settings.home, lake_url=str(tmp_path / "elsewhere")))

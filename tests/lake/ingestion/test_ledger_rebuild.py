"""A ledger belongs to one lake, and a lost one is rebuilt from the tables and the inbox."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, LedgerMismatch, TableLost
from akosha_assets.lake.ingestion import arrivals, ledger_rebuild
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.vacuum import vacuum
from akosha_assets.lake.watch import conditions
from tests.factories import make_upload

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
UNCHANGED = {"id": "R0", "content": "unchanged"}


def ingest(settings: LakeSettings) -> Ledger:
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=NOW)
    arrivals.ingest(Lake(settings), ledger, run_id="test")
    return ledger


def stored_texts(lake: Lake) -> list[tuple[str, str]]:
    return sorted(
        (row["system_id"], row["text"]) for row in lake.select(HOT.address, ["system_id", "text"]).to_pylist()
    )


def test_a_lost_ledger_is_rebuilt_and_nothing_is_stored_twice(settings: LakeSettings, lake: Lake) -> None:
    inbox = settings.home / "inbox"
    for system in ("a", "b"):
        make_upload(inbox, system, reflections=[UNCHANGED, {"id": "R1", "content": "changing"}], at=AT)
    ingest(settings).close()
    removed = next((inbox / "systems/b/uploads").iterdir())
    for path in removed.iterdir():
        path.unlink()
    make_upload(
        inbox, "a", reflections=[UNCHANGED, {"id": "R1", "content": "changed"}, "fresh"], at=AT + timedelta(hours=1)
    )
    for path in settings.home.glob("ledger.sqlite*"):
        path.unlink()

    with pytest.raises(LedgerMismatch, match="akosha ledger rebuild"):
        ingest(settings)
    ledger = Ledger.open(settings)
    assert ledger_rebuild.rebuild(lake, ledger, now=NOW) == ledger_rebuild.Rebuilt(ingested=1, waiting=2, systems=2)
    arrivals.ingest(lake, ledger, run_id="after")
    assert stored_texts(lake) == [
        ("a", "changed"),
        ("a", "fresh"),
        ("a", "unchanged"),
        ("b", "changing"),
        ("b", "unchanged"),
    ]
    assert ledger.receipt(removed.name).removed_at is not None


def test_a_ledger_with_ingested_uploads_is_not_rebuilt(settings: LakeSettings, lake: Lake) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["unchanged"], at=AT)
    with pytest.raises(InvalidRequest, match="expected a new ledger"):
        ledger_rebuild.rebuild(lake, ingest(settings), now=NOW)


def test_the_ledger_of_another_lake_is_rejected(settings: LakeSettings, tmp_path: Path) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["unchanged"], at=AT)
    ingest(settings)
    with pytest.raises(TableLost, match="is gone"):
        ingest(LakeSettings(home=settings.home, lake_url=str(tmp_path / "elsewhere")))


def remove_folder(lake: Lake, address: str) -> None:
    shutil.rmtree(lake.uri(address))


def remove_log(lake: Lake, address: str) -> None:
    shutil.rmtree(Path(lake.uri(address)) / "_delta_log")


def create_again(lake: Lake, address: str) -> None:
    shutil.rmtree(lake.uri(address))
    lake.create(address)


def remove_newest_version(lake: Lake, address: str) -> None:
    max((Path(lake.uri(address)) / "_delta_log").glob("*.json")).unlink()


@pytest.mark.parametrize("damage", [remove_folder, remove_log, create_again, remove_newest_version])
@pytest.mark.parametrize("address", [HOT.address, "graph/entities"])
def test_a_lost_table_stops_ingestion_and_is_not_replaced(
    settings: LakeSettings, lake: Lake, address: str, damage: Callable[[Lake, str], None]
) -> None:
    entity = {"id": "e1", "name": "postgres", "entity_type": "technology", "observations": ["seen"]}
    make_upload(settings.home / "inbox", "a", reflections=[UNCHANGED], others={"kg_entities": [entity]}, at=AT)
    ingest(settings).close()
    damage(lake, address)
    before = sorted(Path(lake.uri(address)).rglob("*"))
    waiting = make_upload(settings.home / "inbox", "b", reflections=[UNCHANGED], at=AT)
    with pytest.raises(TableLost, match="hot-tier-loss"):
        ingest(settings)
    ledger = Ledger.open(settings)
    receipt = ledger.receipt(waiting.upload_id)
    assert (receipt.state, receipt.attempts) == ("waiting", 0)
    assert sorted(Path(lake.uri(address)).rglob("*")) == before, "files were written"
    (alert,) = conditions.of_lost_tables(ledger)
    assert (alert.key, alert.severity, alert.runbook) == (f"table/{address}", "critical", "hot-tier-loss")


def test_a_vacuum_does_not_delete_the_files_of_a_table_without_log(settings: LakeSettings, lake: Lake) -> None:
    make_upload(settings.home / "inbox", "a", reflections=[UNCHANGED], at=AT)
    ledger = ingest(settings)
    remove_log(lake, HOT.address)
    files = sorted(Path(lake.uri(HOT.address)).rglob("*.parquet"))
    with pytest.raises(TableLost):
        lake.create(HOT.address)
    with pytest.raises(TableLost):
        vacuum(lake, ledger, HOT.address, is_full=True, dry_run=False)
    assert sorted(Path(lake.uri(HOT.address)).rglob("*.parquet")) == files


def test_lost_memories_are_restored_from_the_inbox_although_graph_rows_remain(
    settings: LakeSettings, lake: Lake
) -> None:
    entity = {"id": "e1", "name": "postgres", "entity_type": "technology", "observations": ["seen"]}
    for system in ("a", "b"):
        make_upload(
            settings.home / "inbox", system, reflections=[UNCHANGED, "more"], others={"kg_entities": [entity]}, at=AT
        )
    ingest(settings).close()
    rows = stored_texts(lake)
    remove_folder(lake, HOT.address)
    for path in settings.home.glob("ledger.sqlite*"):
        path.unlink()
    ledger = Ledger.open(settings)
    ledger_rebuild.rebuild(lake, ledger, now=NOW)
    arrivals.ingest(lake, ledger, run_id="after")
    assert stored_texts(lake) == rows
    assert lake.select("graph/entities", ["id"]).num_rows == 2

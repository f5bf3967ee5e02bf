"""Rows missing from the tables are counted by kind and system, and by whether the inbox or a backup has them."""

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import BackupDamaged
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.schemas import ENTITIES, HOT
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep import backup
from akosha_assets.lake.upkeep.verification import Verification, verify
from tests.factories import make_upload

NOW = datetime.now(UTC).replace(microsecond=0)


def entity(name: str) -> dict[str, object]:
    return {"id": name, "name": name, "entity_type": "file", "created_at": NOW.replace(tzinfo=None)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a lake with two systems, whose uploads lie in the inbox and whose rows lie in a backup."""
    home = tmp_path_factory.mktemp("template")
    for number, system in enumerate(("ada", "bob")):
        make_upload(
            home / "inbox",
            system,
            conversations=[f"talk {one}" for one in range(3 + number)],
            reflections=["note"],
            others={"kg_entities": [entity("a"), entity("b")]},
            at=NOW - timedelta(hours=1),
        )
    lake = lake_at(home)
    with closing(Ledger.open(lake.settings)) as ledger:
        listing.sweep(lake.settings, ledger, now=NOW, whole=True)
        arrivals.ingest(lake, ledger, run_id="test")
        backup.backup(lake, ledger, now=NOW)
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "akosha", copy_function=shutil.copy2)
    return tmp_path / "akosha"


def lake_at(home: Path) -> Lake:
    return Lake(LakeSettings(home=home, workers=1, backup_url=str(home / "backups")))


def verified(home: Path) -> Verification:
    lake = lake_at(home)
    with closing(Ledger.open(lake.settings)) as ledger:
        return verify(lake, ledger, now=NOW)


def test_a_complete_lake_has_no_missing_rows(home: Path) -> None:
    found = verified(home)
    assert (found.missing, found.systems, found.unread, found.uploads_read) == (0, [], {}, 2)
    counts = {one.kind: (one.tables, one.inbox, one.backup) for one in found.kinds}
    assert counts == {"conversation": (7, 7, 7), "reflection": (2, 2, 2), "kg_entity": (4, 4, 4)}


def test_missing_rows_are_counted_by_kind_and_system_and_by_where_they_are(home: Path) -> None:
    lake = lake_at(home)
    hot, entities = lake.create(HOT.address), lake.create(ENTITIES.address)
    hot.delete("system_id = 'ada' AND kind = 'conversation'")
    entities.delete("id = 'a'")
    shutil.rmtree(next((home / "inbox").rglob("bob")))
    found = verified(home)
    missing = {(one.system_id, one.kind): (one.rows, one.in_inbox, one.in_backup) for one in found.systems}
    assert missing == {
        ("ada", "conversation"): (3, 3, 3),
        ("ada", "kg_entity"): (1, 1, 1),
        ("bob", "kg_entity"): (1, 0, 1),
    }
    assert found.missing == 5
    assert [name.split("/")[0] for name in found.unread] == ["bob"]


def test_all_rows_of_a_lost_table_are_missing(home: Path) -> None:
    shutil.rmtree(home / "lake" / HOT.address)
    assert {one.kind: one.missing for one in verified(home).kinds} == {
        "conversation": 7,
        "reflection": 2,
        "kg_entity": 0,
    }


def test_a_damaged_backup_is_no_proof(home: Path) -> None:
    next((home / "backups" / "files").rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(BackupDamaged):
        verified(home)

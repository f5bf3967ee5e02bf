"""If a table is gone, has no log or an older one, or was replaced by another table, nothing writes to the lake."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable, TableLost
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.schemas import HOT, TABLES
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.repair import repair
from akosha_assets.lake.upkeep.vacuum import vacuum
from tests.factories import make_upload
from tests.lost_tables import Loss, copied, keys, remove, remove_log, remove_newest_commit, take_in

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a lake with two uploads and every table; its files are older than the retention of vacuum."""
    home = tmp_path_factory.mktemp("template")
    settings = LakeSettings(home=home, workers=1)
    for hour in range(2):
        make_upload(home / "inbox", "laptop", reflections=[f"text {hour}"], at=AT + timedelta(hours=hour))
        take_in(Lake(settings))
    with known_tables.guarded(lake := Lake(settings)):
        for address in TABLES:
            lake.create(address)
    # A copy of a file is another revision of its upload.
    shutil.rmtree(home / "inbox")
    for path in (home / "lake").rglob("*.parquet"):
        os.utime(path, (time.time() - 30 * 86_400,) * 2)
    return home


@pytest.fixture(params=["folder", "bucket"])
def filled(
    request: pytest.FixtureRequest, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lake]:
    """That lake, in a folder or in a bucket."""
    with copied(template, tmp_path / "akosha", request.param, monkeypatch) as lake:
        yield lake


def make_anew(lake: Lake, address: str) -> None:
    remove(lake, address)
    tables.create(lake.uri(address), lake.spec(address), lake.storage_options)


LOSSES = [remove, remove_log, remove_newest_commit, make_anew]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_table_stops_ingestion_and_is_not_created_again(filled: Lake, lose: Loss) -> None:
    lose(filled, HOT.address)
    before = keys(filled, HOT.address)
    make_upload(filled.settings.home / "inbox", "laptop", reflections=["second"], at=AT + timedelta(hours=3))
    for _ in range(2):
        with pytest.raises(TableLost):
            take_in(Lake(filled.settings))
    assert keys(filled, HOT.address) == before
    with closing(Ledger.open(filled.settings)) as ledger:
        (waiting,) = ledger.uploads(state="waiting").uploads
    assert (waiting.attempts, waiting.not_before) == (0, None)


@pytest.mark.parametrize("lose", LOSSES)
def test_a_table_lost_while_a_batch_is_read_costs_its_uploads_no_attempt(
    template: Path, tmp_path: Path, lose: Loss
) -> None:
    shutil.copytree(template, tmp_path / "akosha")
    lake = Lake(LakeSettings(home=tmp_path / "akosha", workers=1))
    make_upload(lake.settings.home / "inbox", "laptop", reflections=["second"], at=AT + timedelta(hours=3))
    lost: list[str] = []

    def on_step(step: str) -> None:
        if step == "before_commit":
            lose(lake, HOT.address)
            lost.extend(keys(lake, HOT.address))

    with closing(Ledger.open(lake.settings)) as ledger:
        listing.sweep(lake.settings, ledger, now=datetime.now(UTC), whole=True)
        with pytest.raises(TableLost):
            arrivals.ingest(lake, ledger, run_id="test", on_step=on_step)
        (waiting,) = ledger.uploads(state="waiting").uploads
        assert (waiting.attempts, waiting.not_before, waiting.batch_limit) == (0, None, 1_000_000)
        assert known_tables.lost(ledger) is not None
    assert keys(lake, HOT.address) == lost


@pytest.mark.parametrize("lose", LOSSES)
def test_a_table_lost_during_a_run_is_not_written(filled: Lake, lose: Loss) -> None:
    make_upload(filled.settings.home / "inbox", "laptop", reflections=["second"], at=AT + timedelta(hours=3))
    after: dict[str, list[str]] = {}

    def on_step(step: str) -> None:
        if step == "before_commit":
            lose(filled, HOT.address)
            after["keys"] = keys(filled, HOT.address)

    lake = Lake(filled.settings)
    with closing(Ledger.open(lake.settings)) as ledger:
        listing.sweep(lake.settings, ledger, now=datetime.now(UTC), whole=True)
        with pytest.raises(TableLost):
            arrivals.ingest(lake, ledger, run_id="test", on_step=on_step)
    assert keys(filled, HOT.address) == after["keys"]
    with pytest.raises(TableLost):
        take_in(Lake(filled.settings))


@pytest.mark.parametrize("lose", LOSSES)
def test_creating_tables_stops_at_a_table_lost_during_the_run(filled: Lake, lose: Loss) -> None:
    with known_tables.guarded(filled):
        lose(filled, HOT.address)
        with pytest.raises(TableLost):
            filled.create(HOT.address)
        make_anew(filled, HOT.address)
        with closing(Ledger.open(filled.settings)) as ledger:
            known_tables.adopt(ledger, filled, HOT.address)
        filled.create(HOT.address)


@pytest.mark.parametrize("lose", LOSSES)
def test_a_running_service_detects_a_lost_table_and_serves_it_once_repaired(
    filled: Lake, lose: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akosha_assets.lake.serving.table_log.files.ENTRY_SECONDS", 0)
    settings = filled.settings
    with closing(Ledger.open(settings)) as ledger, closing_replica(filled, known_tables.reader(settings)) as replica:
        replica.refresh()
        assert replica.snapshot.tiers["hot"].state == "ready"
        rows = replica.snapshot.rows
        lose(filled, HOT.address)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                replica.refresh()
            assert replica.snapshot.tiers["hot"].state == "unavailable"
        if lose in (remove_log, remove_newest_commit):
            repair(filled, ledger, HOT.address, now=datetime.now(UTC))
        else:
            remove(filled, HOT.address)
            make_anew(filled, HOT.address)
            known_tables.adopt(ledger, filled, HOT.address)
            rows = 0
        replica.refresh()
        assert (replica.snapshot.tiers["hot"].state, replica.snapshot.rows) == ("ready", rows)


@contextmanager
def closing_replica(lake: Lake, known_table: Callable[[str], tables.KnownTable | None]) -> Iterator[Replica]:
    replica = Replica(lake, known_table=known_table)
    yield replica
    replica.stop()


@pytest.mark.parametrize("lose", LOSSES)
def test_a_full_vacuum_removes_nothing_while_a_table_is_lost(filled: Lake, lose: Loss) -> None:
    lose(filled, HOT.address)
    before = {address: keys(filled, address) for address in TABLES}
    with closing(Ledger.open(filled.settings)) as ledger:
        for address in TABLES:
            with pytest.raises(TableLost):
                vacuum(Lake(filled.settings), ledger, address, is_full=True, dry_run=False)
    assert {address: keys(filled, address) for address in TABLES} == before


@pytest.mark.parametrize("address", TABLES)
def test_every_writer_stops_if_any_table_is_lost(template: Path, tmp_path: Path, address: str) -> None:
    shutil.copytree(template, tmp_path / "akosha")
    lake = Lake(LakeSettings(home=tmp_path / "akosha", workers=1))
    remove(lake, address)
    with pytest.raises(TableLost, match=address), known_tables.guarded(lake):
        pytest.fail("a lost table was found whole")
    assert keys(lake, address) == []

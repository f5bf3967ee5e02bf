"""A table without its log, with an older one or with another table's is repaired from its data files, row by row."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, TableLost
from akosha_assets.lake.graph import near_duplicates
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.lifecycle import aging
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.retention import Hold, place
from akosha_assets.lake.lifecycle_tables import COLD, DAILY_METRICS, HOLDS, MOVES, WARM
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import ABSENCES, ENTITIES, HOT, NEAR_DUPLICATES, TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.compaction import compact
from akosha_assets.lake.upkeep.repair import Repaired, repair
from akosha_assets.lake.upkeep.vacuum import vacuum
from tests.factories import make_upload
from tests.hot_rows import NOW, commit, memory, upsert
from tests.lost_tables import Loss, copied, remove, remove_log, remove_newest_commit, take_in

AT = NOW.replace(hour=12, minute=0, second=0) - timedelta(days=2)


def entity(name: str, **others: object) -> dict[str, object]:
    return {"id": name, "name": name, "entity_type": "file", "created_at": AT.replace(tzinfo=None), **others}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a lake with a history: changed rows, absences, graph rows, an aged day, packed files."""
    home = tmp_path_factory.mktemp("template")
    settings = LakeSettings(home=home, workers=1)
    lake = Lake(settings)
    make_upload(home / "inbox", "desktop", reflections=[f"note {number}" for number in range(6)], at=AT)
    for hour in range(3):
        reflections = [f"note {number}" for number in range(hour, 6)]
        make_upload(
            home / "inbox",
            "laptop",
            reflections=[{"content": f"changed in {hour}", "id": "R1"}, *reflections],
            at=AT + timedelta(hours=hour),
            others={"kg_entities": [entity("a", properties=f'{{"seen": {hour}}}'), entity(f"only-{hour}")]},
        )
        take_in(lake)
    with known_tables.guarded(lake):
        old = [memory(f"old-{number}", f"old text {number}", age=timedelta(days=30)) for number in range(3)]
        commit(lake, 1, *old)
        upsert(lake, 2, memory("old-1", "newer", age=timedelta(days=30), snapshot_at=NOW + timedelta(seconds=1)))
        commit(lake, 3, memory("ancient", "long ago", age=timedelta(days=200)))
        place(lake, Hold("case", "laptop", None, None, "litigation"), changed_at=NOW)
        age_all(lake)
        for hour in range(2):
            near_duplicates.group(lake, now=NOW + timedelta(hours=hour), run_id="test")
        compact(lake, ENTITIES.address, today=NOW.date())
    shutil.rmtree(home / "inbox")
    (home / "inbox" / "systems").mkdir(parents=True)
    return home


@pytest.fixture(params=["folder", "bucket"])
def lake(
    request: pytest.FixtureRequest, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lake]:
    """That lake, in a folder or in a bucket."""
    with copied(template, tmp_path / "akosha", request.param, monkeypatch) as lake:
        yield lake


def rows_of(lake: Lake, address: str) -> list[tuple[object, ...]]:
    """Every row of the table, in an order of its own."""
    rows = lake.select(address, TABLES[address].schema.names)  # noqa: F841 - DuckDB finds it by its name
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        return connection.sql("SELECT * FROM rows ORDER BY ALL").fetchall()


def mend(lake: Lake, address: str) -> Repaired:
    with closing(Ledger.open(lake.settings)) as ledger:
        return repair(lake, ledger, address, now=datetime.now(UTC))


def age_all(lake: Lake) -> None:
    policy, today = TierPolicy.of(lake.settings), NOW.date()
    due = aging.due(lake, policy, today)
    list(aging.age(lake, due, policy=policy, today=today, moved_at=NOW, run="test"))


def identities(lake: Lake, address: str) -> set[tuple[object, ...]]:
    return {tuple(row.values()) for row in lake.select(address, ["id", "snapshot_at"]).to_pylist()}


@pytest.mark.parametrize("lose", [remove_log, remove_newest_commit])
def test_a_repaired_hot_table_has_every_row_once_in_its_newest_form(lake: Lake, lose: Loss) -> None:
    before, warm = rows_of(lake, HOT.address), rows_of(lake, WARM.address)
    files = data_files(lake, HOT.address)
    lose(lake, HOT.address)
    done = mend(lake, HOT.address)
    assert (done.unreadable, done.rows_in_files - done.rows_superseded) == ({}, done.rows)
    assert data_files(lake, HOT.address) >= files
    # What aging had moved to warm is back; it is moved again.
    assert done.rows == len(before) + len(warm) + 1 and len(identities(lake, HOT.address)) == done.rows
    age_all(lake)
    assert rows_of(lake, HOT.address) == before
    assert rows_of(lake, WARM.address) == warm
    # Ingestion and a full vacuum go on, and a second repair finds nothing to do.
    take_in(lake)
    with closing(Ledger.open(lake.settings)) as ledger:
        vacuum(lake, ledger, HOT.address, is_full=True, dry_run=False)
    assert rows_of(lake, HOT.address) == before
    with pytest.raises(InvalidRequest, match="nothing is wrong"):
        mend(lake, HOT.address)


@pytest.mark.parametrize(
    "address", [one.address for one in (WARM, COLD, DAILY_METRICS, HOLDS, MOVES, ENTITIES, ABSENCES, NEAR_DUPLICATES)]
)
def test_every_table_is_repaired_to_the_rows_it_had(template: Path, tmp_path: Path, address: str) -> None:
    shutil.copytree(template, tmp_path / "akosha")
    lake = Lake(LakeSettings(home=tmp_path / "akosha", workers=1))
    before = rows_of(lake, address)
    assert before
    remove_log(lake, address)
    assert mend(lake, address).rows == len(before)
    assert rows_of(lake, address) == before


def test_an_unreadable_file_loses_only_its_rows_and_the_next_upload_restores_them(lake: Lake) -> None:
    before = identities(lake, ENTITIES.address)
    store = ObjectStore(f"{lake.settings.lake()}/{ENTITIES.address}")
    store.put("part-0.parquet", b"PAR1 no file PAR1")
    remove_log(lake, ENTITIES.address)
    done = mend(lake, ENTITIES.address)
    assert list(done.unreadable) == ["part-0.parquet"]
    assert identities(lake, ENTITIES.address) == before
    with closing(Ledger.open(lake.settings)) as ledger:
        assert not any(system.is_known for system in ledger.systems())


def test_missing_files_of_the_log_are_skipped(lake: Lake) -> None:
    store = ObjectStore(f"{lake.settings.lake()}/{ABSENCES.address}")
    rows = rows_of(lake, ABSENCES.address)
    store.delete(min(data_files(lake, ABSENCES.address)))
    assert mend(lake, ABSENCES.address).rows < len(rows)
    assert set(rows_of(lake, ABSENCES.address)) < set(rows)


@pytest.mark.parametrize("content", ["another type", "a null", "no column", "two days"])
def test_files_that_break_the_schema_are_reported_and_skipped(template: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(template, tmp_path / "akosha")
    lake = Lake(LakeSettings(home=tmp_path / "akosha", workers=1))
    rows = lake.select(HOT.address, HOT.schema.names).slice(0, 2)
    broken = {
        "another type": lambda: rows.set_column(0, "system_id", pa.array([[1], [2]])),
        "a null": lambda: rows.set_column(0, "system_id", pa.array(["x", None])),
        "no column": lambda: rows.drop_columns(["text"]),
        "two days": lambda: rows.set_column(3, "event_day", pa.array([date(2026, 1, 1), date(2026, 1, 2)])),
    }[content]()
    pq.write_table(broken, Path(lake.uri(HOT.address)) / "broken.parquet")
    remove_log(lake, HOT.address)
    assert list(mend(lake, HOT.address).unreadable) == ["broken.parquet"]


def test_without_any_data_file_there_is_nothing_to_repair_from(lake: Lake) -> None:
    remove(lake, HOT.address)
    with pytest.raises(TableLost):
        mend(lake, HOT.address)
    with pytest.raises(InvalidRequest, match="expected one of"):
        mend(lake, "lifecycle/lukewarm")


def data_files(lake: Lake, address: str) -> set[str]:
    entries = ObjectStore(f"{lake.settings.lake()}/{address}").list()
    return {entry.key for entry in entries if entry.key.endswith(".parquet") and "_delta_log" not in entry.key}

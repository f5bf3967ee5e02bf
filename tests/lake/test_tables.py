"""Creating tables from several processes at once, and tables of earlier versions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest

from akosha_assets.lake import days, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle import hot
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.compaction import compact
from tests import old_tables
from tests.lake.lifecycle.memories import TODAY, days_ago, hot_rows, store

ATTEMPTS, CREATORS = 10, 3


def test_processes_that_create_one_table_at_once_get_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in range(ATTEMPTS):
        monkeypatch.setenv("AKOSHA_HOME", str(tmp_path / str(attempt)))
        ready = Barrier(CREATORS)

        def create(lake: Lake, ready: Barrier = ready) -> str:
            ready.wait()
            return str(lake.create(HOT.address).metadata().id)

        lakes = [Lake(LakeSettings()) for _ in range(CREATORS)]
        with ThreadPoolExecutor(CREATORS) as pool:
            assert len(set(pool.map(create, lakes))) == 1


def test_a_table_of_an_earlier_version_is_read_and_gets_its_columns_with_the_first_write(lake: Lake) -> None:
    day = days_ago(1)
    old_tables.write_without(lake, HOT.address, hot_rows(day, 3))
    read = lake.select(
        HOT.address, ["id", "passages", "passage_ranges"], "passage_ranges IS NULL AND id <> 'id-000000'"
    )
    assert read.to_pylist() == [
        {"id": f"id-00000{number}", "passages": None, "passage_ranges": None} for number in (1, 2)
    ]
    old = lake.open(HOT.address)
    assert old is not None
    streamed = pa.Table.from_batches(days.stream(old, HOT, ["passages", "id"], days.predicate(day)))
    assert (streamed.num_rows, streamed["passages"].null_count) == (3, 3)

    store(lake, hot_rows(day, 2, first=3), batch=2)
    table = lake.open(HOT.address)
    assert table is not None and set(HOT.schema.names) == set(tables.column_names(table))
    assert lake.select(HOT.address, ["passages"]).num_rows == 5


def test_several_writers_add_missing_columns_once(lake: Lake) -> None:
    old_tables.write_without(lake, HOT.address, hot_rows(days_ago(1), 3))
    ready = Barrier(CREATORS)

    def create(mine: Lake) -> int:
        ready.wait()
        return mine.create(HOT.address).version()

    with ThreadPoolExecutor(CREATORS) as pool:
        assert list(pool.map(create, [Lake(lake.settings) for _ in range(CREATORS)])) == [1] * CREATORS


def test_upkeep_rewrites_days_of_a_table_of_an_earlier_version(lake: Lake) -> None:
    day = days_ago(30)
    for first in range(0, 20, 2):
        old_tables.write_without(lake, HOT.address, hot_rows(day, 2, first=first))
    compacted = compact(lake, HOT.address, today=TODAY)
    assert compacted is not None and (compacted.files_before, compacted.files_after) == (10, 1)
    assert hot.rebuild_day(lake, day, run_id="test").rows == 20

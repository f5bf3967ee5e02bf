"""A reader finds each memory once at any time while days move."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.placement import read
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.backup import backup
from akosha_assets.lake.upkeep.restore_drill import drill
from tests.bucket import bucket
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store


def test_a_reader_finds_each_memory_once_while_its_day_moves(lake: Lake) -> None:
    day, policy = days_ago(30), TierPolicy.of(lake.settings)
    store(lake, hot_rows(day, 40))
    seen: list[dict[str, int]] = []
    tiers: Counter[str] = Counter()
    over = threading.Event()

    def read_tiers() -> None:
        while not over.is_set():
            rows = read(lake, ["id"], event_days=[day])
            seen.append(Counter(rows["id"].to_pylist()))
            tiers.update(set(rows["tier"].to_pylist()))

    reader = threading.Thread(target=read_tiers)
    reader.start()
    try:
        for batch, today in ((1, TODAY), (2, TODAY), (3, TODAY.replace(year=2027))):
            if batch > 1:
                store(lake, hot_rows(day, 40, batch=batch, words="again", snapshot=batch), batch=batch)
            # Each step waits for a read, so that every state between two commits is read.
            age_day(
                lake,
                day,
                move=Move(policy, NOW, "run"),
                today=today,
                checkpoint=lambda step: wait_for_a_read(seen),
            )
    finally:
        over.set()
        reader.join()
    assert {len(counted) for counted in seen} == {40}
    assert {count for counted in seen for count in counted.values()} == {1}
    assert set(tiers) == {"hot", "warm", "cold"}


def wait_for_a_read(seen: list[dict[str, int]]) -> None:
    before = len(seen)
    for _ in range(1000):
        if len(seen) > before + 1:
            return
        threading.Event().wait(0.01)
    raise AssertionError("the reader stopped")


def test_days_age_and_are_backed_up_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket("akosha", monkeypatch) as url:
        settings = LakeSettings(home=tmp_path, lake_url=f"{url}/lake", backup_url=f"{url}/backup")
        lake = Lake(settings)
        store(lake, hot_rows(days_ago(100), 30))
        assert age_day(lake, days_ago(100), move=Move(TierPolicy.of(settings), NOW, "run"), today=TODAY).rows == 30
        ledger = Ledger.open(settings)
        created = backup(lake, ledger, now=NOW)
        ledger.close()
        assert drill(settings).rows == created.rows

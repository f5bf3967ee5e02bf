"""The replica follows real Delta tables: what comes, goes, changes and ages."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable, TierUnavailable
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.query import Filters, Identity
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.results import describe_tier as describe_tier
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex
from akosha_assets.lake.serving.text.query_syntax import parse_query
from tests.hot_rows import NOW, commit, memory, upsert


@pytest.fixture
def replica(lake: Lake) -> Iterator[Replica]:
    created = Replica(lake, today=NOW.date)
    yield created
    created.stop()


def texts(replica: Replica) -> list[str]:
    return sorted(
        text for part in replica.snapshot.tiers["hot"].parts for text in part.payload.whole()["text"].to_pylist()
    )


def test_a_lake_that_does_not_exist_is_served_as_empty(replica: Replica) -> None:
    replica.refresh()
    tier = replica.snapshot.tiers["hot"]
    assert (tier.state, tier.rows) == ("empty", 0)
    assert "nothing was written" in (tier.reason or "")


def test_each_commit_is_served_after_the_next_refresh(lake: Lake, replica: Replica) -> None:
    first = commit(lake, 1, memory("a", "one"))
    replica.refresh()
    second = commit(lake, 2, memory("b", "two"), memory("c", "three", age=timedelta(days=1)))
    assert replica.reached_at(first) is not None
    assert replica.reached_at(second) is None
    replica.refresh()
    assert texts(replica) == ["one", "three", "two"]
    assert replica.reached_at(second) is not None
    assert replica.snapshot.tiers["hot"].version == second
    assert replica.snapshot.keyword_rows == 3


def test_only_the_new_version_of_a_changed_row_is_served(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "old words"), memory("b", "other"))
    replica.refresh()
    upsert(lake, 2, memory("a", "new words", snapshot_at=NOW + timedelta(hours=1)))
    replica.refresh()
    assert texts(replica) == ["new words", "other"]
    assert replica.snapshot.keyword_rows == 2


def test_null_tags_that_an_earlier_version_wrote_are_dropped(lake: Lake, replica: Replica) -> None:
    table = lake.create("lifecycle/hot")
    rows = pa.Table.from_pylist(
        [memory("odd", "marmot one", tags=["sql", None]), memory("plain", "marmot two")], HOT.schema
    )
    write_deltalake(table, rows, mode="append")
    replica.refresh()
    commit(lake, 2, memory("later", "marmot three"))
    replica.refresh()
    assert replica.snapshot.keyword_rows == 3
    (part, *_) = (part for part in replica.snapshot.tiers["hot"].parts if part.has_tag("sql").any())
    assert part.payload.value("tags", int(part.has_tag("sql").argmax())) == ["sql"]


def test_a_deleted_day_is_removed_and_the_others_stay(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "today"), memory("b", "before", age=timedelta(days=2)))
    replica.refresh()
    table = lake.open("lifecycle/hot")
    assert table is not None
    table.delete(f"event_day = '{(NOW - timedelta(days=2)).date()}'")
    replica.refresh()
    assert texts(replica) == ["today"]
    assert replica.snapshot.keyword_rows == 1


def test_a_snapshot_taken_before_a_commit_does_not_change(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "one"))
    replica.refresh()
    before = replica.snapshot
    commit(lake, 2, memory("b", "two"))
    replica.refresh()
    assert (before.rows, replica.snapshot.rows) == (1, 2)


def test_days_older_than_the_window_are_served_from_disk(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("new", "today"), memory("old", "long ago", age=timedelta(days=30)))
    replica.refresh()
    tier = replica.snapshot.tiers["hot"]
    assert {part.folder for part in tier.parts if part.day == NOW.date()} == {None}
    assert tier.days_on_disk == [(NOW - timedelta(days=30)).date()]
    assert texts(replica) == ["long ago", "today"]
    commit(lake, 2, memory("older", "long ago too", age=timedelta(days=30)))
    upsert(lake, 3, memory("old", "changed long ago", age=timedelta(days=30), snapshot_at=NOW + timedelta(hours=1)))
    replica.refresh()
    assert texts(replica) == ["changed long ago", "long ago too", "today"]
    assert tier.days_on_disk == replica.snapshot.tiers["hot"].days_on_disk


def test_days_on_disk_use_no_file_descriptors(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("1", "long ago", age=timedelta(days=30)))
    replica.refresh()
    commit(lake, 2, *(memory(str(day), "long ago", age=timedelta(days=day)) for day in range(31, 41)))
    replica.refresh()
    assert len(replica.snapshot.tiers["hot"].days_on_disk) == 11
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in links if str(replica.folder / "parts") in str(path)]


def test_a_day_that_leaves_the_window_moves_to_disk(lake: Lake) -> None:
    today = NOW.date()
    replica = Replica(lake, today=lambda: today)
    commit(lake, 1, memory("a", "one"))
    replica.refresh()
    assert not replica.snapshot.tiers["hot"].days_on_disk
    today += timedelta(days=lake.settings.hot_days + 1)
    replica.refresh()
    assert replica.snapshot.tiers["hot"].days_on_disk == [NOW.date()]
    assert texts(replica) == ["one"]
    replica.stop()


def test_many_small_commits_become_few_parts(lake: Lake, replica: Replica) -> None:
    for sequence in range(1, 13):
        commit(lake, sequence, memory(f"m{sequence}", f"text {sequence}"))
        replica.refresh()
    assert replica.snapshot.rows == 12
    assert len(replica.snapshot.tiers["hot"].parts) <= 4


def test_a_memory_is_found_by_its_identity(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "one"), memory("a", "same id elsewhere", system="laptop-bob"))
    replica.refresh()
    place = replica.snapshot.find(Identity("laptop-bob", "conversation", "a"))
    assert place is not None
    assert place[1].payload.value("text", place[2]) == "same id elsewhere"
    assert replica.snapshot.find(Identity("laptop-bob", "reflection", "a")) is None


def test_two_replicas_of_one_home_use_folders_of_their_own(lake: Lake, replica: Replica) -> None:
    other = Replica(lake)
    assert other.folder != replica.folder
    other.stop()


def test_a_missing_file_is_set_aside_and_served_once_it_is_back(
    lake: Lake, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, 1, memory("a", "one"))
    replica.refresh()
    commit(lake, 2, memory("b", "two"))
    table = lake.open("lifecycle/hot")
    assert table is not None
    newest = max(table.file_uris(), key=lambda uri: os.stat(uri).st_mtime_ns)
    moved = newest + ".away"
    os.rename(newest, moved)
    replica.refresh()
    assert texts(replica) == ["one"]
    hot = replica.snapshot.tiers["hot"]
    assert (hot.state, hot.is_whole, hot.is_loaded, hot.rows_set_aside) == ("ready", False, True, 1)
    assert "1 rows in 1 files cannot be read" in (hot.reason or "")
    with pytest.raises(TierUnavailable, match="hot is incomplete"):
        replica.snapshot.find(Identity("laptop-ada", "conversation", "b"))
    # Files that arrive meanwhile are served, and the missing file is retried later.
    commit(lake, 3, memory("c", "three"))
    replica.refresh()
    assert texts(replica) == ["one", "three"]
    os.rename(moved, newest)
    replica.refresh()
    assert texts(replica) == ["one", "three"]
    monkeypatch.setattr(
        "akosha_assets.lake.serving.replica.set_aside.time.monotonic", lambda: time.monotonic_ns() / 1e9 + 100
    )
    replica.refresh()
    assert texts(replica) == ["one", "three", "two"]
    assert (replica.snapshot.tiers["hot"].is_whole, replica.snapshot.tiers["hot"].reason) == (True, None)
    assert replica.snapshot.keyword_rows == 3


def test_only_the_damaged_files_of_a_day_are_set_aside(lake: Lake, replica: Replica) -> None:
    for number in range(4):
        commit(
            lake,
            number + 1,
            memory(f"m{number}", f"text {number}"),
            memory(f"o{number}", f"old {number}", age=timedelta(days=1)),
        )
    for path in sorted((Path(lake.uri("lifecycle/hot")) / f"event_day={NOW.date()}").glob("*.parquet"))[:3]:
        path.write_bytes(path.read_bytes()[:100])
    replica.refresh()
    hot = replica.snapshot.tiers["hot"]
    assert (hot.rows, hot.rows_set_aside, replica.snapshot.keyword_rows) == (5, 3, 5)
    assert describe_tier(hot)["state"] == "partial"
    replica.refresh()
    assert replica.is_settled


def test_rows_that_cannot_be_indexed_are_found_by_meaning(
    lake: Lake, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, 1, memory("a", "one deadlock"))
    replica.refresh()
    add = KeywordIndex.add

    def fail(self: KeywordIndex, part: Part, start: int, stop: int) -> int:
        if "odd" in part.payload.whole()["text"].to_pylist():
            raise TypeError("'None' is not an instance of 'str'")
        return add(self, part, start, stop)

    monkeypatch.setattr(KeywordIndex, "add", fail)
    commit(lake, 2, memory("b", "odd", age=timedelta(days=1)))
    commit(lake, 3, memory("c", "another deadlock", age=timedelta(days=2)))
    replica.refresh()
    assert texts(replica) == ["another deadlock", "odd", "one deadlock"]
    assert replica.snapshot.keyword_rows == 2
    assert len(replica.snapshot.keywords.search(parse_query("deadlock"), Filters(), 10)[0]) == 2


def test_other_tiers_are_served_after_an_unexpected_failure_of_one(
    lake: Lake, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, 1, memory("a", "one"))

    def fail() -> None:
        raise KeyError("odd")

    monkeypatch.setattr(replica._tiers["hot"].follower, "poll", fail)
    with pytest.raises(StoreUnavailable, match="KeyError"):
        replica.refresh()
    assert {name: view.state for name, view in replica.snapshot.tiers.items()} == {
        "hot": "unavailable",
        "warm": "empty",
        "cold": "empty",
    }


def test_a_missing_table_is_reported_until_it_is_back(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "one"))
    replica.refresh()
    table, away = Path(lake.uri("lifecycle/hot")), Path(lake.uri("lifecycle/away"))
    table.rename(away)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="has no log now"):
            replica.refresh()
    assert texts(replica) == ["one"]
    assert replica.snapshot.tiers["hot"].state == "unavailable"
    away.rename(table)
    replica.refresh()
    assert replica.snapshot.tiers["hot"].state == "ready"


def test_keyword_search_finds_the_rows_of_a_file_while_it_is_rewritten(
    lake: Lake, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, 1, *(memory(str(number), f"deadlock {number}") for number in range(4)))
    replica.refresh()
    shown: list[Snapshot] = []
    publish = replica._publish

    def publishing(views: dict[str, TierView]) -> None:
        publish(views)
        shown.append(replica.snapshot)

    monkeypatch.setattr(replica, "_publish", publishing)
    table = DeltaTable(lake.uri("lifecycle/hot"))
    table.delete("id = '0'")
    table.optimize.compact()
    replica.refresh()
    assert shown
    for snapshot in shown:
        _, rows = snapshot.locate(snapshot.keywords.search(parse_query("deadlock"), Filters(), 10)[0])
        assert (len(rows), snapshot.keyword_rows) == (3, 3)


def test_a_table_without_its_log_at_the_start_is_not_reported_empty(lake: Lake, replica: Replica) -> None:
    commit(lake, 1, memory("a", "one"))
    log, away = Path(lake.uri("lifecycle/hot")) / "_delta_log", Path(lake.uri("lifecycle/away"))
    log.rename(away)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="has no log now"):
            replica.refresh()
    assert {name: view.state for name, view in replica.snapshot.tiers.items()} == {
        "hot": "unavailable",
        "warm": "empty",
        "cold": "empty",
    }
    away.rename(log)
    replica.refresh()
    assert texts(replica) == ["one"]

"""The replica serves without its cache on disk, says so, and uses it again once it can."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.replica import cache_folder
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.results import describe_tier
from akosha_assets.lake.serving.text.query_syntax import parse_query
from tests.hot_rows import NOW, commit, memory
from tests.lake.serving.replica.test_replica import texts

OLD = timedelta(days=30)


@contextmanager
def no_file_grows() -> Iterator[None]:
    """Every write of this process to a file fails with EFBIG, as on a full disk with ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next refresh retries a failed write."""
    monkeypatch.setattr(cache_folder, "RETRY_SECONDS", 0.0)


def found(replica: Replica, words: str) -> list[str]:
    snapshot = replica.snapshot
    places, rows = snapshot.locate(snapshot.keywords.search(parse_query(words), Filters(), 10)[0])
    pairs = zip(places.tolist(), rows.tolist(), strict=True)
    return sorted(snapshot.places[place][1].payload.value("text", row) for place, row in pairs if place >= 0)


def test_a_disk_that_is_full_at_the_start_loses_no_row(lake: Lake, at_once: None) -> None:
    commit(lake, 1, memory("a", "marmot new"), memory("b", "marmot old", age=OLD))
    with no_file_grows():
        replica = Replica(lake, today=NOW.date)
        replica.refresh()
        assert texts(replica) == found(replica, "marmot") == ["marmot new", "marmot old"]
        assert "cannot be written" in (replica.cache_reason or "")
        assert replica.is_settled
        assert all(tier.is_loaded for tier in replica.snapshot.tiers.values())
    replica.refresh()
    assert replica.cache_reason is None
    assert texts(replica) == found(replica, "marmot") == ["marmot new", "marmot old"]
    assert replica.snapshot.tiers["hot"].days_on_disk == [(NOW - OLD).date()]
    replica.stop()
    # The next process continues with what was written by then.
    again = Replica(lake, today=NOW.date)
    assert again._tiers["hot"].row_ranges
    again.refresh()
    assert found(again, "marmot") == ["marmot new", "marmot old"]
    again.stop()


def test_every_commit_is_served_after_the_disk_becomes_full(lake: Lake, at_once: None) -> None:
    commit(lake, 1, memory("a", "marmot one"), memory("b", "marmot old", age=OLD))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    for number in (2, 3):
        commit(
            lake, number, memory(f"m{number}", f"marmot {number}"), memory(f"o{number}", f"marmot o{number}", age=OLD)
        )
        with no_file_grows():
            replica.refresh()
            assert replica.cache_reason is not None
            assert len(found(replica, "marmot")) == replica.snapshot.rows == 2 * number
    replica.refresh()
    assert replica.cache_reason is None
    assert len(found(replica, "marmot")) == 6
    replica.stop()


def test_files_that_fit_neither_disk_nor_memory_wait_and_are_reported(lake: Lake, at_once: None) -> None:
    commit(lake, 1, memory("a", "marmot new"), memory("b", "marmot old", age=OLD))
    with no_file_grows():
        replica = Replica(lake, today=NOW.date, memory_bytes=0)
        replica.refresh()
        hot = replica.snapshot.tiers["hot"]
        assert (hot.rows, hot.rows_set_aside, describe_tier(hot)["state"]) == (0, 2, "partial")
        assert "cannot be written" in (hot.reason or "")
    replica.refresh()
    assert texts(replica) == ["marmot new", "marmot old"]
    assert replica.snapshot.tiers["hot"].reason is None
    replica.stop()


@pytest.mark.parametrize("removed", ["cache", "cache/serving", "cache/serving/0", "cache/serving/0/keywords"])
def test_a_cache_that_is_removed_while_it_is_used_is_rebuilt(lake: Lake, at_once: None, removed: str) -> None:
    commit(lake, 1, memory("a", "marmot one"), memory("b", "marmot old", age=OLD))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    shutil.rmtree(lake.settings.home / removed)
    assert found(replica, "marmot") == ["marmot old", "marmot one"]
    commit(lake, 2, memory("c", "marmot two"), memory("d", "marmot older", age=OLD))
    replica.refresh()
    replica.refresh()
    assert texts(replica) == found(replica, "marmot") == ["marmot old", "marmot older", "marmot one", "marmot two"]
    assert replica.cache_reason is None
    assert replica.snapshot.tiers["hot"].days_on_disk == [(NOW - OLD).date()]
    assert (replica.folder / "state.json").exists()
    commit(lake, 3, memory("e", "marmot three"))
    replica.refresh()
    assert len(found(replica, "marmot")) == 5
    replica.stop()


def test_a_folder_that_cannot_be_created_is_created_later(lake: Lake, at_once: None) -> None:
    commit(lake, 1, memory("a", "marmot one"))
    in_the_way = lake.settings.home / "cache"
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("")
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    assert found(replica, "marmot") == ["marmot one"]
    assert str(in_the_way) in (replica.cache_reason or "")
    assert not replica.folder.exists()
    in_the_way.unlink()
    replica.refresh()
    assert replica.cache_reason is None
    assert found(replica, "marmot") == ["marmot one"]
    assert (replica.folder / "state.json").exists()
    replica.stop()


def test_a_process_serves_all_rows_with_an_earlier_cache_on_a_full_disk(lake: Lake, at_once: None) -> None:
    commit(lake, 1, memory("a", "marmot one"), memory("b", "marmot old", age=OLD))
    first = Replica(lake, today=NOW.date)
    first.refresh()
    first.stop()
    commit(lake, 2, memory("c", "marmot two"))
    with no_file_grows():
        replica = Replica(lake, today=NOW.date, memory_bytes=0)
        replica.refresh()
        assert texts(replica) == found(replica, "marmot") == ["marmot old"]
        assert replica.snapshot.tiers["hot"].rows_set_aside == 2
        assert "File too large" in (replica.cache_reason or "")
    replica.refresh()
    assert texts(replica) == found(replica, "marmot") == ["marmot old", "marmot one", "marmot two"]
    replica.stop()

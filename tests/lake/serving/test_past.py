"""Questions to earlier versions: what was changed, moved and removed since, and how far back one may ask."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving import export
from akosha_assets.lake.serving.memories import memory as read
from akosha_assets.lake.serving.past import Past
from akosha_assets.lake.serving.query import Filters, Identity, Question
from akosha_assets.lake.serving.replica import Replica
from akosha_assets.lake.serving.search import Searcher
from akosha_assets.lake.serving.snapshot import Snapshot
from tests.hot_rows import NOW, colder, commit, memory, unit, upsert

AGED = timedelta(days=30)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def replica(lake: Lake) -> Iterator[Replica]:
    made = Replica(lake, today=NOW.date)
    yield made
    made.stop()


@pytest.fixture
def past(replica: Replica) -> Iterator[Past]:
    made = Past(replica, max_bytes=1 << 30)
    yield made
    made.close()


def found(snapshot: Snapshot, words: str, **question: object) -> list[tuple[str, str, str]]:
    answer = Searcher(None, "no model").search(snapshot, Question(text=words, mode="keyword", **question))  # type: ignore[arg-type]
    return sorted((result["id"], result["tier"], result["text"]) for result in answer.results)


def moved_to_warm(lake: Lake, row: dict[str, object]) -> None:
    colder(lake, 1, "warm", row)
    hot = lake.open("lifecycle/hot")
    assert hot is not None
    days.remove(hot, days.predicate((NOW - AGED).date()), writer="test/aging", metadata={})


def test_a_changed_memory_is_found_as_it_was(lake: Lake, replica: Replica, past: Past) -> None:
    first = commit(lake, 1, memory("a", "deadlock in postgres"), memory("b", "deadlock in redis"))
    upsert(lake, 2, memory("a", "deadlock that was solved", snapshot_at=LATER))
    commit(lake, 3, memory("c", "deadlock that came later"))
    replica.refresh()
    then = past.snapshot(first)
    assert found(then, "deadlock") == [("a", "hot", "deadlock in postgres"), ("b", "hot", "deadlock in redis")]
    assert found(then, "later solved") == []
    question = Question(vector=tuple(unit("deadlock in postgres").tolist()), limit=1)
    (nearest,) = Searcher(None).search(then, question).results
    assert (nearest["text"], round(nearest["score"], 2)) == ("deadlock in postgres", 1)
    identity = Identity("laptop-ada", "conversation", "a")
    assert read(lake, then, identity, is_past=True)["provenance"]["snapshot_at"] == NOW
    assert read(lake, replica.snapshot, identity)["provenance"]["snapshot_at"] == LATER
    assert sorted(row["text"] for batch in export.batches(then, Filters()) for row in batch.to_pylist()) == [
        "deadlock in postgres",
        "deadlock in redis",
    ]


def test_a_time_means_the_version_that_was_served_then(lake: Lake, replica: Replica, past: Past) -> None:
    for number in range(5):
        commit(lake, number + 1, memory(str(number), f"memory {number}"))
    replica.refresh()
    for version in range(6):
        log = Path(lake.uri("lifecycle/hot")) / f"_delta_log/{version:020d}.json"
        at = NOW.timestamp() - 600 + version * 60
        os.utime(log, (at, at))
    then = past.snapshot(NOW - timedelta(seconds=600 - 3 * 60 - 30))
    assert (then.tiers["hot"].version, then.tiers["hot"].rows) == (3, 3)
    assert then.tiers["hot"].watermark == NOW - timedelta(seconds=600 - 3 * 60)
    assert past.snapshot(NOW - timedelta(days=1)).tiers["hot"].state == "empty"
    assert past.snapshot(NOW).tiers["hot"].rows == 5


def test_a_day_that_was_moved_is_found_where_it_lay(lake: Lake, replica: Replica, past: Past) -> None:
    aged = memory("w", "certificate expired", age=AGED)
    before = commit(lake, 1, aged, memory("h", "certificate renewed"))
    moved_to_warm(lake, aged)
    replica.refresh()
    assert [tier for _, tier, _ in found(replica.snapshot, "certificate")] == ["hot", "warm"]
    then = past.snapshot(before)
    assert found(then, "certificate") == [("h", "hot", "certificate renewed"), ("w", "hot", "certificate expired")]
    assert then.tiers["warm"].state == "empty"
    assert [tier for _, tier, _ in found(past.snapshot(datetime.now(UTC)), "certificate")] == ["hot", "warm"]


def test_cold_says_that_it_is_not_asked(lake: Lake, replica: Replica, past: Past) -> None:
    colder(lake, 1, "cold", memory("c", "ancient deadlock", age=timedelta(days=300)))
    version = commit(lake, 1, memory("h", "deadlock"))
    replica.refresh()
    then = past.snapshot(version)
    assert [id for id, _, _ in found(then, "deadlock")] == ["h"]
    assert (then.tiers["cold"].state, then.tiers["cold"].why) == (
        "skipped",
        "as_of reaches back in hot and warm; cold is not asked as of a past time",
    )


def test_versions_share_the_parts_of_files_that_both_hold(lake: Lake, replica: Replica, past: Past) -> None:
    version = commit(lake, 1, memory("a", "one"))
    commit(lake, 2, memory("b", "two", age=timedelta(days=1)))
    replica.refresh()
    (then,) = past.snapshot(version).tiers["hot"].parts
    assert any(then.payload is part.payload for part in replica.snapshot.tiers["hot"].parts)


def test_a_version_whose_files_are_removed_is_refused_with_the_oldest_that_is_whole(lake: Lake, replica: Replica, past: Past) -> None:
    gone = commit(lake, 1, memory("a", "first form"))
    kept = upsert(lake, 2, memory("a", "second form", snapshot_at=LATER))
    DeltaTable(lake.uri("lifecycle/hot")).vacuum(0, dry_run=False, enforce_retention_duration=False)
    replica.refresh()
    with pytest.raises(
        InvalidRequest, match=rf"files of version {gone} of lifecycle/hot are removed by now; expected version {kept} .*committed"
    ):
        past.snapshot(gone)
    assert found(past.snapshot(kept), "form") == [("a", "hot", "second form")]


def test_a_log_that_was_cut_is_refused_with_where_it_begins(lake: Lake, replica: Replica, past: Past) -> None:
    for number in range(1, 5):
        commit(lake, number, memory(str(number), "text"))
    table = DeltaTable(lake.uri("lifecycle/hot"))
    table.create_checkpoint()
    for version in range(4):
        (Path(lake.uri("lifecycle/hot")) / f"_delta_log/{version:020d}.json").unlink()
    replica.refresh()
    with pytest.raises(InvalidRequest, match="version 1 is no more in the log of lifecycle/hot; expected version 4"):
        past.snapshot(1)
    with pytest.raises(InvalidRequest, match="expected version 4"):
        past.snapshot(NOW - timedelta(days=1))


@pytest.mark.parametrize(("as_of", "said"), [(99, "no version 99; expected one up to 1"), (LATER, "lies ahead")])
def test_what_lies_ahead_is_refused(lake: Lake, replica: Replica, past: Past, as_of: int | datetime, said: str) -> None:
    commit(lake, 1, memory("a", "text"))
    replica.refresh()
    with pytest.raises(InvalidRequest, match=said):
        past.snapshot(as_of)


@pytest.mark.parametrize("bound", ["bytes", "files"])
def test_files_that_left_are_forgotten_when_others_need_the_room(lake: Lake, replica: Replica, bound: str) -> None:
    versions = [commit(lake, 1, memory("a", "form 0"))]
    versions += [
        upsert(lake, number + 1, memory("a", f"form {number}", snapshot_at=NOW + timedelta(hours=number))) for number in range(1, 4)
    ]
    replica.refresh()
    sizes = DeltaTable(lake.uri("lifecycle/hot"), version=2).get_add_actions()
    (one,) = sizes["size_bytes"].to_pylist()
    past = Past(replica, max_bytes=int(one * 1.5)) if bound == "bytes" else Past(replica, max_bytes=1 << 30, max_files=1)
    for turn in (1, 2, 1):
        assert found(past.snapshot(versions[turn]), "form") == [("a", "hot", f"form {turn}")]
        assert len(list((replica.folder / "past/parts/hot").iterdir())) == 1
    past.close()
    with pytest.raises(InvalidRequest, match="AKOSHA_API_AS_OF_BYTES"):
        Past(replica, max_bytes=0).snapshot(versions[0])

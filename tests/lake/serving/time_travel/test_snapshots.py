"""Searches in earlier versions: changed, moved and removed rows, and how far back versions reach."""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, NotFound, StoreUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.query import Filters, Identity, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search import export
from akosha_assets.lake.serving.search.memories import read_memory as read
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.time_travel.snapshots import TimeTravel
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.backup import backup
from akosha_assets.lake.upkeep.restore import restore
from tests.bucket import bucket
from tests.hot_rows import NOW, commit, commit_to_tier, memory, set_commit_time, unit, upsert

AGED = timedelta(days=30)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def replica(lake: Lake) -> Iterator[Replica]:
    created = Replica(lake, today=NOW.date)
    yield created
    created.stop()


@pytest.fixture
def past(replica: Replica) -> Iterator[TimeTravel]:
    created = TimeTravel(replica, max_bytes=1 << 30)
    yield created
    created.close()


def found(snapshot: Snapshot, words: str, **question: Any) -> list[tuple[str, str, str]]:
    answer = Searcher(None, "no model").search(snapshot, Question(text=words, mode="keyword", **question))
    return sorted((result["id"], result["tier"], result["text"]) for result in answer.results)


def moved_to_warm(lake: Lake, row: dict[str, object]) -> None:
    commit_to_tier(lake, 1, "warm", row)
    hot = lake.open("lifecycle/hot")
    assert hot is not None
    days.remove(hot, days.predicate((NOW - AGED).date()), writer="test/aging", metadata={})


def test_a_changed_memory_is_found_with_its_earlier_text(lake: Lake, replica: Replica, past: TimeTravel) -> None:
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


def test_a_time_selects_the_version_of_that_time(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    for number in range(5):
        commit(lake, number + 1, memory(str(number), f"memory {number}"))
    for version in range(6):
        set_commit_time(lake, "lifecycle/hot", version, NOW - timedelta(seconds=600 - version * 60))
    replica.refresh()
    then = past.snapshot(NOW - timedelta(seconds=600 - 3 * 60 - 30))
    assert (then.tiers["hot"].version, then.tiers["hot"].rows) == (3, 3)
    assert then.tiers["hot"].watermark == NOW - timedelta(seconds=600 - 3 * 60)
    assert past.snapshot(NOW - timedelta(days=1)).tiers["hot"].state == "empty"
    assert past.snapshot(NOW).tiers["hot"].rows == 5


def test_a_moved_day_is_found_in_its_earlier_tier(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    aged = memory("w", "certificate expired", age=AGED)
    before = commit(lake, 1, aged, memory("h", "certificate renewed"))
    moved_to_warm(lake, aged)
    replica.refresh()
    assert [tier for _, tier, _ in found(replica.snapshot, "certificate")] == ["hot", "warm"]
    then = past.snapshot(before)
    assert found(then, "certificate") == [("h", "hot", "certificate renewed"), ("w", "hot", "certificate expired")]
    assert then.tiers["warm"].state == "empty"
    assert [tier for _, tier, _ in found(past.snapshot(datetime.now(UTC)), "certificate")] == ["hot", "warm"]


def test_cold_is_skipped_and_the_answer_says_so(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    commit_to_tier(lake, 1, "cold", memory("c", "ancient deadlock", age=timedelta(days=300)))
    version = commit(lake, 1, memory("h", "deadlock"))
    replica.refresh()
    then = past.snapshot(version)
    assert [id for id, _, _ in found(then, "deadlock")] == ["h"]
    assert (then.tiers["cold"].state, then.tiers["cold"].reason) == (
        "skipped",
        "as_of applies to hot and warm; cold is not searched as of an earlier time",
    )
    identity = Identity("laptop-ada", "conversation", "c")
    assert read(lake, replica.snapshot, identity)["text"] == "ancient deadlock"
    with pytest.raises(NotFound, match=r"where was looked: .* cold is not searched"):
        read(lake, then, identity, is_past=True)
    with pytest.raises(NotFound, match=r"where was looked: .* cold is not searched"):
        Searcher(None).search(then, Question(like=identity))


def test_versions_share_the_parts_of_common_files(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    version = commit(lake, 1, memory("a", "one"))
    commit(lake, 2, memory("b", "two", age=timedelta(days=1)))
    replica.refresh()
    (then,) = past.snapshot(version).tiers["hot"].parts
    assert any(then.payload is part.payload for part in replica.snapshot.tiers["hot"].parts)


def test_unchanged_rows_of_a_rewritten_file_are_shared(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    first = commit(lake, 1, *(memory(name, f"deadlock {name}") for name in "abc"))
    for sequence, name in enumerate("ab", 2):
        upsert(lake, sequence, memory(name, f"solved {name}", snapshot_at=LATER))
        replica.refresh()
        then = past.snapshot(first)
        assert found(then, "deadlock") == [(name, "hot", f"deadlock {name}") for name in "abc"]
        assert found(then, "solved") == []
        shared, own = then.tiers["hot"].parts
        assert shared.payload is replica.snapshot.tiers["hot"].parts[0].payload
        assert own.payload.select(["id"])["id"].to_pylist() == list("abc"[: sequence - 1])
    # A row that is restored unchanged is shared again.
    DeltaTable(lake.uri("lifecycle/hot")).restore(first)
    replica.refresh()
    then = past.snapshot(first)
    assert found(then, "deadlock") == found(replica.snapshot, "deadlock")
    assert [part.folder for part in then.tiers["hot"].parts] == [None]


def test_all_rows_of_a_compacted_table_are_shared(lake: Lake, replica: Replica) -> None:
    for sequence in range(1, 4):
        before = commit(lake, sequence, memory(str(sequence), f"deadlock {sequence}"))
    DeltaTable(lake.uri("lifecycle/hot")).optimize.compact()
    replica.refresh()
    past = TimeTravel(replica, max_bytes=100)
    then = past.snapshot(before)
    assert [len(part) for part in then.tiers["hot"].parts] == [
        len(part) for part in replica.snapshot.tiers["hot"].parts
    ]
    assert found(then, "deadlock") == [(str(number), "hot", f"deadlock {number}") for number in range(1, 4)]
    assert [id for id, _, _ in found(past.snapshot(before - 1), "deadlock")] == ["1", "2"]
    past.close()


@pytest.mark.parametrize("seed", range(3))
def test_every_version_gives_its_own_answer(lake: Lake, replica: Replica, seed: int) -> None:
    chosen = random.Random(seed)
    past = TimeTravel(replica, max_bytes=1 << 30, max_files=3)
    texts_at: dict[int, dict[str, str]] = {}
    for step in range(1, 15):
        rows = {row["id"]: row for row in lake.select("lifecycle/hot", HOT.schema.names).to_pylist()}
        act = (
            chosen.choice(["add", "change", "change", "delete", "compact", "restore"])
            if rows and len(texts_at) > 1
            else "add"
        )
        table = lake.open("lifecycle/hot")
        if table is None or act == "add":
            commit(
                lake,
                step,
                *(memory(f"{step}-{n}", f"deadlock {step}", age=timedelta(days=chosen.randrange(3))) for n in range(4)),
            )
        elif act == "change":
            newer = {"text": f"deadlock {step}", "snapshot_at": NOW + timedelta(seconds=step)}
            upsert(lake, step, *(rows[name] | newer for name in chosen.sample(sorted(rows), 2)))
        elif act == "delete":
            table.delete(f"id = '{chosen.choice(sorted(rows))}'")
        elif act == "compact":
            table.optimize.compact()
        else:
            table.restore(chosen.choice(sorted(texts_at)[:-1]))
        version = DeltaTable(lake.uri("lifecycle/hot")).version()
        texts_at[version] = {row["id"]: row["text"] for row in lake.select("lifecycle/hot", ["id", "text"]).to_pylist()}
        replica.refresh()
        for as_of in chosen.sample(sorted(texts_at), min(3, len(texts_at))):
            then = past.snapshot(as_of)
            assert {id: text for id, _, text in found(then, "deadlock", limit=100, collapse=False)} == texts_at[as_of]
            assert sum(batch.num_rows for batch in export.batches(then, Filters())) == len(texts_at[as_of])
    past.close()


def test_a_vacuumed_version_is_refused_with_the_oldest_complete_one(
    lake: Lake, replica: Replica, past: TimeTravel
) -> None:
    first = commit(lake, 1, memory("a", "first form"))
    second = upsert(lake, 2, memory("a", "second form", snapshot_at=LATER))
    DeltaTable(lake.uri("lifecycle/hot")).vacuum(0, dry_run=False, enforce_retention_duration=False)
    replica.refresh()
    with pytest.raises(
        InvalidRequest,
        match=rf"files of version {first} of lifecycle/hot are removed by now; expected version {second} .*committed",
    ):
        past.snapshot(first)
    assert found(past.snapshot(second), "form") == [("a", "hot", "second form")]


def test_a_version_before_a_truncated_log_is_refused_with_the_first_one(
    lake: Lake, replica: Replica, past: TimeTravel
) -> None:
    for number in range(1, 5):
        commit(lake, number, memory(str(number), "text"))
    table = DeltaTable(lake.uri("lifecycle/hot"))
    table.create_checkpoint()
    for version in range(4):
        (Path(lake.uri("lifecycle/hot")) / f"_delta_log/{version:020d}.json").unlink()
    replica.refresh()
    with pytest.raises(InvalidRequest, match="no longer has the commit time of version 1; expected version 4"):
        past.snapshot(1)
    with pytest.raises(InvalidRequest, match="expected version 4"):
        past.snapshot(NOW - timedelta(days=1))


@contextmanager
def served(lake: Lake) -> Iterator[tuple[Replica, TimeTravel]]:
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    past = TimeTravel(replica, max_bytes=1 << 30)
    yield replica, past
    past.close()
    replica.stop()


def aged_and_changed(lake: Lake) -> tuple[int, int]:
    """A day moved from hot to warm, then a memory changed; returns the hot version before the change and the newest."""
    aged = memory("w", "deadlock that was moved", age=AGED)
    commit(lake, 1, aged, memory("h", "deadlock in redis"))
    moved_to_warm(lake, aged)
    table = lake.open("lifecycle/hot")
    assert table is not None
    return table.version(), upsert(lake, 2, memory("h", "deadlock that was solved", snapshot_at=LATER))


def assert_the_same_past(
    there: Lake, newest: int, marks: dict[str, datetime | None], *, before: int | None = None
) -> None:
    with served(there) as (replica, past):
        assert {tier: view.watermark for tier, view in replica.snapshot.tiers.items()} == marks
        hot = marks["hot"]
        assert hot is not None
        for as_of in (newest, hot):
            then = past.snapshot(as_of)
            assert found(then, "deadlock") == [
                ("h", "hot", "deadlock that was solved"),
                ("w", "warm", "deadlock that was moved"),
            ]
            assert then.tiers["hot"].version == newest
            assert [then.tiers[tier].state for tier in ("hot", "warm")] == ["ready", "ready"]
        if before is not None:
            assert ("h", "hot", "deadlock in redis") in found(past.snapshot(before), "deadlock")


def marks_of(lake: Lake) -> dict[str, datetime | None]:
    with served(lake) as (replica, _):
        return {tier: view.watermark for tier, view in replica.snapshot.tiers.items()}


def test_a_copied_lake_keeps_the_commit_times(lake: Lake, tmp_path: Path) -> None:
    before, newest = aged_and_changed(lake)
    # Warm is copied last, as a copy of everything does it, and every file is as new as the copy.
    shutil.copytree(lake.settings.home / "lake", tmp_path / "copy" / "lake", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy" / "lake/lifecycle/warm").rglob("*.json"):
        os.utime(path)
    assert_the_same_past(Lake(LakeSettings(home=tmp_path / "copy")), newest, marks_of(lake), before=before)


def test_a_restored_lake_keeps_the_commit_times(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path / "first", backup_url=str(tmp_path / "backup"))
    lake = Lake(settings)
    _, newest = aged_and_changed(lake)
    ledger = Ledger.open(settings)
    backup(lake, ledger, now=datetime.now(UTC))
    ledger.close()
    other = settings.model_copy(update={"home": tmp_path / "other"})
    restore(other)
    assert_the_same_past(Lake(other), newest, marks_of(lake))


def test_a_lake_copied_to_a_bucket_keeps_the_commit_times(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, newest = aged_and_changed(lake)
    with bucket("lake", monkeypatch) as url:
        store = ObjectStore(f"{url}/tables")
        for path in sorted((lake.settings.home / "lake").rglob("*")):
            if path.is_file():
                store.put(str(path.relative_to(lake.settings.home / "lake")), path.read_bytes())
        there = Lake(LakeSettings(home=tmp_path / "other", lake_url=f"{url}/tables"))
        assert_the_same_past(there, newest, marks_of(lake), before=before)


def test_a_watermark_ahead_of_this_clock_is_accepted(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    version = commit(lake, 1, memory("a", "text"))
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    set_commit_time(lake, "lifecycle/hot", version, ahead)
    replica.refresh()
    assert replica.snapshot.tiers["hot"].watermark == ahead
    assert past.snapshot(ahead).tiers["hot"].version == version
    with pytest.raises(InvalidRequest, match="is in the future"):
        past.snapshot(ahead + timedelta(seconds=1))


def test_an_unreadable_table_is_not_reported_complete(lake: Lake, replica: Replica, past: TimeTravel) -> None:
    aged = memory("w", "certificate", age=AGED)
    commit(lake, 1, aged)
    moved_to_warm(lake, aged)
    replica.refresh()
    watermark = replica.snapshot.tiers["warm"].watermark
    assert watermark is not None
    warm = Path(lake.uri("lifecycle/warm"))
    (warm / "_delta_log/00000000000000000002.json").write_text("{")
    with pytest.raises(StoreUnavailable):
        replica.refresh()
    later = past.snapshot(datetime.now(UTC)).tiers["warm"]
    assert (later.state, later.rows) == ("unavailable", 1)
    assert "lifecycle/warm" in (later.reason or "")
    assert past.snapshot(watermark).tiers["warm"].state == "ready"
    warm.rename(warm.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable):
        TimeTravel(replica, max_bytes=0).snapshot(datetime.now(UTC))


@pytest.mark.parametrize(
    ("as_of", "message"), [(99, "no version 99; expected one up to 1"), (LATER, "is in the future")]
)
def test_a_future_version_is_refused(
    lake: Lake, replica: Replica, past: TimeTravel, as_of: int | datetime, message: str
) -> None:
    commit(lake, 1, memory("a", "text"))
    replica.refresh()
    with pytest.raises(InvalidRequest, match=message):
        past.snapshot(as_of)


@pytest.mark.parametrize(
    "bound", [{"max_bytes": 150_000}, {"max_bytes": 1 << 30, "max_files": 1}], ids=["bytes", "files"]
)
def test_removed_files_are_evicted_when_others_need_the_space(
    lake: Lake, replica: Replica, bound: dict[str, int]
) -> None:
    texts = [f"form {number} {'and so on ' * 10_000}" for number in range(4)]
    versions = [commit(lake, 1, memory("a", texts[0]))]
    versions += [
        upsert(lake, number + 1, memory("a", texts[number], snapshot_at=NOW + timedelta(hours=number)))
        for number in range(1, 4)
    ]
    replica.refresh()
    past = TimeTravel(replica, **bound)
    for turn in (1, 2, 1):
        assert found(past.snapshot(versions[turn]), "form") == [("a", "hot", texts[turn])]
        assert len(list((replica.folder / "past/parts/hot").iterdir())) == 1
    past.close()
    with pytest.raises(InvalidRequest, match="AKOSHA_API_AS_OF_BYTES"):
        TimeTravel(replica, max_bytes=1000).snapshot(versions[0])


def test_only_one_question_fails_after_the_cache_folder_is_removed(
    lake: Lake, replica: Replica, past: TimeTravel
) -> None:
    first = commit(lake, 1, memory("a", "deadlock one"), memory("b", "deadlock two"))
    second = upsert(lake, 2, memory("a", "solved", snapshot_at=LATER))
    upsert(lake, 3, memory("b", "solved", snapshot_at=LATER))
    replica.refresh()
    assert len(found(past.snapshot(second), "deadlock")) == 1
    shutil.rmtree(lake.settings.home / "cache")
    replica.refresh()
    with pytest.raises(StoreUnavailable, match="the serving cache failed"):
        past.snapshot(first)
    assert len(found(past.snapshot(first), "deadlock")) == 2

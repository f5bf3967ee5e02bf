"""A day moves to its new tier completely, and readers see every row exactly once."""

import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, RecallBelowPolicy, TableContended
from akosha_assets.lake.lifecycle import aging, moving
from akosha_assets.lake.lifecycle.aging import Due, age, age_day, due, group_small_days
from akosha_assets.lake.lifecycle.moving import Aged
from akosha_assets.lake.lifecycle.placement import days_in, locate, read
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.lifecycle_tables import COLD, DAILY_METRICS, MOVES
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence
from tests import tiny_model
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hash_of, hot_rows, store


@pytest.fixture
def policy(lake: Lake) -> TierPolicy:
    return TierPolicy.of(lake.settings)


def aged(lake: Lake, policy: TierPolicy, day: date, **more: Any) -> Aged:
    return age_day(lake, day, move=Move(policy, NOW, "test"), today=TODAY, **more)


def _counts(lake: Lake, event_days: Iterable[date]) -> dict[str, int]:
    rows = read(lake, ["id"], event_days=list(event_days))
    assert len(pc.unique(rows["id"])) == rows.num_rows
    return {item["values"]: item["counts"] for item in pc.value_counts(rows["tier"]).to_pylist()}


def test_a_day_past_the_hot_window_becomes_summaries_and_int8(lake: Lake, policy: TierPolicy) -> None:
    store(lake, hot_rows(days_ago(8), 300))
    outcome = aged(lake, policy, days_ago(8))
    assert (outcome.tier, outcome.rows, outcome.rows_moved) == ("warm", 300, 300)
    assert outcome.recall_at_10 >= 0.97
    assert _counts(lake, [days_ago(8)]) == {"warm": 300}
    row = locate(lake, "system-1", "conversation", "id-000001").row
    assert len(row["vector"]) == 384 and row["vector_scale"] > 0 and row["space"] == "test-space"
    assert row["text"] is None and "cache of build 1 was stale" in row["summary"]
    assert row["summary"].count(". ") < 3
    assert row["attributes"] == '{"turn": 1}' and row["tags"] == ["a", "t1"] and row["project"] == "project-1"
    assert len(row["fingerprint"]) == 128
    assert (row["policy_version"], row["aged_by"], row["moved_at"]) == (policy.version, "test", NOW)
    assert row["upload_id"] == "upload-1" and row["batch_id"] == 1


def test_a_day_past_the_warm_window_goes_straight_to_cold_with_its_metrics(lake: Lake, policy: TierPolicy) -> None:
    store(lake, hot_rows(days_ago(100), 300))
    outcome = aged(lake, policy, days_ago(100))
    assert (outcome.tier, outcome.rows) == ("cold", 300)
    row = locate(lake, "system-1", "conversation", "id-000001").row
    assert len(row["sketch"]) == 48 and len(row["fingerprint"]) == 64
    assert "vector" not in row and "text" not in row
    assert row["summary"].count(". ") == 0
    metrics = lake.select("lifecycle/metrics", ["memories", "embedded", "system_id"])
    assert pc.sum(metrics["memories"]).as_py() == pc.sum(metrics["embedded"]).as_py() == 300


def test_warm_days_go_on_to_cold_when_their_time_comes(lake: Lake, policy: TierPolicy) -> None:
    store(lake, hot_rows(days_ago(8), 150))
    aged(lake, policy, days_ago(8))
    later = TODAY.replace(year=2027)
    assert [(item.event_day, item.tier) for item in due(lake, policy, later)] == [(days_ago(8), "cold")]
    age_day(lake, days_ago(8), move=Move(policy, NOW, "later"), today=later)
    assert _counts(lake, [days_ago(8)]) == {"cold": 150}
    assert days_in(lake)["warm"] == {}


def test_only_days_past_a_window_are_due_oldest_first(lake: Lake, policy: TierPolicy) -> None:
    for age_days in (0, 6, 7, 89, 90, 3000):
        store(lake, hot_rows(days_ago(age_days), 2, first=age_days * 10), batch=age_days + 1)
    assert [(item.event_day, item.tier) for item in due(lake, policy, TODAY)] == [
        (days_ago(3000), "cold"),
        (days_ago(90), "cold"),
        (days_ago(89), "warm"),
        (days_ago(7), "warm"),
    ]
    with pytest.raises(InvalidRequest, match="belongs in hot until 2026-11-02"):
        aged(lake, policy, days_ago(6))


def test_late_rows_join_their_day_and_changed_rows_replace_their_older_form(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(10)
    store(lake, hot_rows(day, 100))
    aged(lake, policy, day)
    store(lake, hot_rows(day, 60, first=80, batch=2, words="and wrong", snapshot=5), batch=2)
    assert _counts(lake, [day]) == {"hot": 60, "warm": 80}
    assert [item.event_day for item in due(lake, policy, TODAY)] == [day]
    outcome = aged(lake, policy, day)
    assert (outcome.rows, outcome.rows_moved) == (140, 60)
    assert _counts(lake, [day]) == {"warm": 140}
    assert "and wrong" in locate(lake, "system-0", "conversation", "id-000081").row["summary"]
    assert "and wrong" not in locate(lake, "system-1", "conversation", "id-000079").row["summary"]


def test_late_and_changed_rows_of_a_day_in_cold_end_in_cold(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(100)
    store(lake, hot_rows(day, 100))
    aged(lake, policy, day)
    store(lake, hot_rows(day, 60, first=80, batch=2, words="and wrong", snapshot=5), batch=2)
    assert _counts(lake, [day]) == {"hot": 60, "cold": 80}
    assert [(item.event_day, item.tier) for item in due(lake, policy, TODAY)] == [(day, "cold")]
    assert aged(lake, policy, day).rows == 140
    assert _counts(lake, [day]) == {"cold": 140}
    hashes = {
        n: locate(lake, f"system-{n % 3}", "conversation", f"id-{n:06d}").row["content_hash"] for n in (79, 81, 139)
    }
    assert hashes == {79: hash_of(79, ""), 81: hash_of(81, "and wrong"), 139: hash_of(139, "and wrong")}
    assert pc.sum(lake.select("lifecycle/metrics", ["memories"])["memories"]).as_py() == 140


def test_an_older_snapshot_does_not_replace_a_newer_one(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(10)
    store(lake, hot_rows(day, 10, words="as known", snapshot=9))
    aged(lake, policy, day)
    store(lake, hot_rows(day, 10, batch=2, words="long ago", snapshot=1), batch=2)
    aged(lake, policy, day)
    assert "as known" in locate(lake, "system-1", "conversation", "id-000001").row["summary"]


def test_rows_that_break_a_rule_of_today_are_repaired_as_they_move(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(10)
    rows = hot_rows(day, 3).to_pylist()
    rows[0] |= {"tags": ["sql", None], "project": "é" * 2000, "importance": float("nan")}
    rows[1]["vector"] = b"\x00\x7e" * 384
    table = pa.Table.from_pylist(rows, HOT.schema)
    at = table.schema.get_field_index("snapshot_at")
    years_later = pa.array([2**62] * 3).view(HOT.schema.field("snapshot_at").type)
    # Past the rules, as an earlier version wrote them.
    write_deltalake(
        lake.create("lifecycle/hot"), table.set_column(at, HOT.schema.field(at), years_later), mode="append"
    )
    for today, tier in ((TODAY, "warm"), (TODAY + timedelta(days=100), "cold")):
        age_day(lake, day, move=Move(policy, NOW, "test"), today=today)
        assert _counts(lake, [day]) == {tier: 3}
        row = locate(lake, "system-0", "reflection", "id-000000").row
        assert (row["tags"], row["project"], row["importance"]) == (["sql"], "é" * 512, None)


def test_rows_without_a_vector_move_and_are_counted(lake: Lake, policy: TierPolicy) -> None:
    store(lake, hot_rows(days_ago(9), 20, embedded=False))
    outcome = aged(lake, policy, days_ago(9))
    assert (outcome.rows_without_vector, outcome.recall_at_10) == (20, None)
    assert locate(lake, "system-1", "conversation", "id-000001").row["vector"] is None


def test_rows_without_a_vector_get_one_before_their_text_is_dropped(tmp_path: Path) -> None:
    lake = Lake(
        LakeSettings(
            home=tmp_path, embedding_model="akosha/tiny", embedding_model_dir=tiny_model.make(tmp_path / "model")
        )
    )
    policy = TierPolicy.of(lake.settings)
    store(lake, hot_rows(days_ago(9), 20, embedded=False))
    [outcome] = age(lake, due(lake, policy, TODAY), policy=policy, today=TODAY, moved_at=NOW, run="test")
    assert isinstance(outcome, Aged) and outcome.rows_without_vector == 0
    assert locate(lake, "system-1", "conversation", "id-000001").row["space"] == "akosha/tiny"


def test_the_recall_gate_stops_a_day_and_reports_its_recall(lake: Lake, policy: TierPolicy) -> None:
    store(lake, hot_rows(days_ago(100), 400))
    store(lake, hot_rows(days_ago(20), 20, first=1000, batch=2), batch=2)
    strict = replace(policy, cold_recall=0.999)
    with pytest.raises(RecallBelowPolicy, match=r"under the 0\.999"):
        aged(lake, strict, days_ago(100))
    assert _counts(lake, [days_ago(100)]) == {"hot": 400}
    outcomes = list(age(lake, due(lake, strict, TODAY), policy=strict, today=TODAY, moved_at=NOW, run="test"))
    assert [type(outcome) for outcome in outcomes] == [RecallBelowPolicy, Aged]


def test_rows_that_arrive_while_a_day_moves_are_moved_and_not_lost(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(10)
    store(lake, hot_rows(day, 50))
    arrivals = iter([hot_rows(day, 5, first=100, batch=2)])

    def arrive(step: str) -> None:
        rows = next(arrivals, None) if step == "verified" else None
        if rows is not None:
            store(lake, rows, batch=2)

    outcome = aged(lake, policy, day, checkpoint=arrive)
    assert outcome.rows == 55
    assert _counts(lake, [day]) == {"warm": 55}


def test_days_move_side_by_side_and_large_ones_alone_in_their_order(
    lake: Lake, policy: TierPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aging, "LARGE_DAY_ROWS", 150)
    monkeypatch.setattr(moving, "LARGE_DAY_ROWS", 150)
    ages = [100, 50, 40, 30, 20, 10, 9, 8]
    for number, days_old in enumerate(ages):
        store(
            lake,
            hot_rows(days_ago(days_old), 200 if days_old in (50, 9) else 20, first=1000 * number, batch=number + 1),
            batch=number + 1,
        )
    outcomes = list(age(lake, due(lake, policy, TODAY), policy=policy, today=TODAY, moved_at=NOW, run="test"))
    assert [outcome.event_day for outcome in outcomes if isinstance(outcome, Aged)] == [
        days_ago(days_old) for days_old in ages
    ]
    assert _counts(lake, [days_ago(days_old) for days_old in ages]) == {"cold": 20, "warm": 500}
    assert due(lake, policy, TODAY) == []
    assert lake.select("lifecycle/moves", ["event_day"]).num_rows == len(ages)


def test_two_runs_that_age_one_day_leave_each_row_once(lake: Lake, policy: TierPolicy) -> None:
    day = days_ago(10)
    store(lake, hot_rows(day, 50))
    others = iter(["the other run"])

    def meanwhile(step: str) -> None:
        if step == "gated" and next(others, None):
            aged(lake, policy, day)

    assert aged(lake, policy, day, checkpoint=meanwhile).rows_moved in (0, 50)
    assert _counts(lake, [day]) == {"warm": 50}
    assert days_in(lake)["warm"][day].rows == 50


def test_a_removal_refuses_rows_it_has_not_read(lake: Lake) -> None:
    day = days_ago(10)
    store(lake, hot_rows(day, 5))
    table = lake.open("lifecycle/hot")
    store(lake, hot_rows(day, 5, first=5, batch=2), batch=2)
    with pytest.raises(TableContended):
        days.remove(table, days.predicate(day), writer="age/x", metadata={})
    assert lake.select("lifecycle/hot", ["id"]).num_rows == 10


STEPS = ["gated", "written", "verified", "recorded", "flipped:warm", "flipped:hot"]

AGE_AND_DIE = """
import os, signal, sys
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle_tables import COLD, DAILY_METRICS, MOVES
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from tests import tiny_model
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago
lake = Lake(LakeSettings(home=sys.argv[1]))
die = lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == sys.argv[2] else None
age_day(lake, days_ago(100), move=Move(TierPolicy.of(lake.settings), NOW, "killed"), today=TODAY, checkpoint=die)
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_run_killed_after_any_step_leaves_each_row_once_and_the_next_run_ends_it(
    lake: Lake, policy: TierPolicy, step: str
) -> None:
    day = days_ago(100)
    # Rows in hot and warm: part of the day was moved while it was younger.
    store(lake, hot_rows(day, 60))
    age_day(lake, day, move=Move(replace(policy, warm_days=200), NOW, "first"), today=TODAY)
    store(lake, hot_rows(day, 60, first=40, batch=2, words="and wrong", snapshot=5), batch=2)

    died = subprocess.run(
        [sys.executable, "-c", AGE_AND_DIE, str(lake.settings.home), step], check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert sum(_counts(lake, [day]).values()) == 100
    changed = locate(lake, "system-0", "reflection", "id-000042")
    assert "and wrong" in changed.row.get("text", changed.row.get("summary"))

    if step != "flipped:hot":
        assert [item.event_day for item in due(lake, policy, TODAY)] == [day]
    # The day does not stand still while nobody ages it: new rows, and one that changed once more.
    rows = hot_rows(day, 11, first=99, batch=3, words="at last", snapshot=9)
    lake.upsert("lifecycle/hot", rows, Fence("ingest/test", 3), {}, only=f"t.event_day = DATE '{day}'")
    assert sum(_counts(lake, [day]).values()) == 110
    assert [item.event_day for item in due(lake, policy, TODAY)] == [day]
    aged(lake, policy, day)
    assert _counts(lake, [day]) == {"cold": 110}
    assert locate(lake, "system-0", "conversation", "id-000099").row["content_hash"] == hash_of(99, "at last")
    assert {tier: list(found) for tier, found in days_in(lake).items()} == {"hot": [], "warm": [], "cold": [day]}
    assert pc.sum(lake.select("lifecycle/metrics", ["memories"])["memories"]).as_py() == 110


def test_many_small_days_move_in_few_commits_each_with_its_own_record(lake: Lake, settings: LakeSettings) -> None:
    policy = TierPolicy.of(settings)
    ages = range(100, 140)
    rows = [row for age_days in ages for row in hot_rows(days_ago(age_days), 2, first=age_days * 10).to_pylist()]
    store(lake, pa.Table.from_pylist(rows, HOT.schema), batch=1)
    hot_version = lake.open(HOT.address).version()
    outcomes = age(lake, due(lake, policy, TODAY), policy=policy, today=TODAY, moved_at=NOW, run="test")
    assert [(one.event_day, one.rows, one.rows_moved) for one in outcomes if isinstance(one, Aged)] == [
        (days_ago(age_days), 2, 2) for age_days in reversed(ages)
    ]
    assert due(lake, policy, TODAY) == []
    assert lake.open(HOT.address).version() == hot_version + 1
    assert lake.open(COLD.address).version() == 1
    assert lake.select(COLD.address, ["id"]).num_rows == 2 * len(ages)
    moves = lake.select(MOVES.address, ["event_day", "rows"])
    assert sorted(moves["event_day"].to_pylist()) == [days_ago(age_days) for age_days in reversed(ages)]
    memories = lake.select(DAILY_METRICS.address, ["event_day", "memories"])
    assert set(memories["event_day"].to_pylist()) == {days_ago(age_days) for age_days in ages}
    assert pc.sum(memories["memories"]).as_py() == 2 * len(ages)


def test_small_days_of_one_tier_are_grouped_and_large_ones_move_alone() -> None:
    sizes = {days_ago(day): 100 if day == 103 else 5 for day in range(80, 110)}
    items = [Due(day, "cold" if day <= days_ago(90) else "warm", rows, 0) for day, rows in sorted(sizes.items())]
    groups = group_small_days(items, sizes)
    assert [item for group in groups for item in group] == items
    assert [len(group) for group in groups] == [6, 1, 13, 10]


def test_a_day_that_others_keep_writing_to_does_not_keep_its_neighbours(
    lake: Lake, settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TierPolicy.of(settings)
    for age_days in (100, 101, 102):
        store(lake, hot_rows(days_ago(age_days), 2, first=age_days * 10), batch=age_days)
    busy, move_days = days_ago(101), moving.move_days

    def contend(handles: Any, event_days: list[date], *rest: Any) -> list[Aged]:
        if busy in event_days:
            raise TableContended("hot", 1, "busy")
        return move_days(handles, event_days, *rest)

    monkeypatch.setattr(aging, "move_days", contend)
    with pytest.raises(TableContended):
        list(age(lake, due(lake, policy, TODAY), policy=policy, today=TODAY, moved_at=NOW, run="test"))
    assert [item.event_day for item in due(lake, policy, TODAY)] == [busy]

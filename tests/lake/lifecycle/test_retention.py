"""Deletion needs two confirmations, and a hold protects rows from it."""

from typing import Any

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, NotFound
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.retention import Deletion, Hold, expire, holds, place, release
from akosha_assets.lake.lifecycle.warm import Move
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store


@pytest.fixture
def aged(lake: Lake) -> Lake:
    policy = TierPolicy.of(lake.settings)
    for batch, age in enumerate((2000, 3000), start=1):
        store(lake, hot_rows(days_ago(age), 30, first=batch * 100, batch=batch), batch=batch)
        age_day(lake, days_ago(age), move=Move(policy, NOW, "run"), today=TODAY)
    return lake


def expired(lake: Lake, **more: Any) -> Deletion:
    return expire(lake, TierPolicy.of(lake.settings), today=TODAY, run="run", **more)


def test_deletion_needs_two_confirmations(aged: Lake) -> None:
    assert expired(aged).rows["cold"] == 30
    assert aged.select("lifecycle/cold", ["id"]).num_rows == 60
    assert expired(aged, dry_run=False).rows["cold"] == 30
    assert aged.select("lifecycle/cold", ["id"]).num_rows == 30
    assert expired(aged, dry_run=False).rows["cold"] == 0


def test_a_hold_by_system_or_time_excludes_rows_until_it_is_released(aged: Lake) -> None:
    place(aged, Hold("case-1", "system-1", None, None, "litigation"), changed_at=NOW)
    assert expired(aged, dry_run=False).rows["cold"] == 20
    assert expired(aged).rows_held == 10
    place(aged, Hold("case-2", None, days_ago(3100), days_ago(2900), "audit"), changed_at=NOW)
    release(aged, "case-1", changed_at=NOW.replace(hour=13))
    assert [hold.hold_id for hold in holds(aged)] == ["case-2"]
    assert (expired(aged).rows["cold"], expired(aged).rows_held) == (0, 10)
    release(aged, "case-2", changed_at=NOW.replace(hour=13))
    assert expired(aged, dry_run=False).rows["cold"] == 10


def test_probes_are_deleted_with_their_rows(lake: Lake) -> None:
    policy = TierPolicy.of(lake.settings)
    for batch, age in enumerate((2000, 3000), start=1):
        store(lake, hot_rows(days_ago(age), 120, first=batch * 1000, batch=batch), batch=batch)
        age_day(lake, days_ago(age), move=Move(policy, NOW, "run"), today=TODAY)
    expired(lake)
    assert lake.select("lifecycle/probes", ["event_day"])["event_day"].unique().to_pylist() == [
        days_ago(3000),
        days_ago(2000),
    ]
    expired(lake, dry_run=False)
    assert lake.select("lifecycle/probes", ["event_day"])["event_day"].unique().to_pylist() == [days_ago(2000)]


def test_a_hold_without_a_filter_and_an_unknown_hold_are_refused(lake: Lake) -> None:
    with pytest.raises(InvalidRequest):
        place(lake, Hold("odd", None, TODAY, days_ago(1), ""), changed_at=NOW)
    with pytest.raises(NotFound):
        release(lake, "odd", changed_at=NOW)

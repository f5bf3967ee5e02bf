"""A simulated policy is computed from the existing tables."""

from dataclasses import replace

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.simulation import Prices, simulate
from akosha_assets.lake.lifecycle.warm import Move
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store


def test_rows_bytes_memory_and_cost_follow_the_policy(lake: Lake) -> None:
    for batch, age in enumerate((1, 5, 40, 80), start=1):
        store(lake, hot_rows(days_ago(age), 200, first=batch * 1000, batch=batch), batch=batch)
    policy = TierPolicy.of(lake.settings)
    age_day(lake, days_ago(40), move=Move(policy, NOW, "run"), today=TODAY)
    found = simulate(
        lake,
        replace(policy, hot_days=3, warm_days=60),
        today=TODAY,
        moved_at=NOW,
        prices=Prices(storage=1024**3, memory=0),
    )
    assert [(cost.tier, cost.rows) for cost in found.now] == [("hot", 600), ("warm", 200), ("cold", 0)]
    assert [(cost.tier, cost.rows) for cost in found.then] == [("hot", 200), ("warm", 400), ("cold", 200)]
    assert found.rows_to_move == 400
    hot, warm, cold = found.then
    assert hot.bytes_per_row > warm.bytes_per_row > cold.bytes_per_row > 0
    assert (warm.bytes_per_row_from, cold.bytes_per_row_from) == ("table", "sample of hot rows")
    assert hot.memory_bytes > warm.memory_bytes > cold.memory_bytes == 0
    assert cold.cost_per_month == pytest.approx(cold.stored_bytes, rel=0.01)


def test_an_empty_lake_costs_nothing(lake: Lake) -> None:
    found = simulate(lake, TierPolicy.of(lake.settings), today=TODAY, moved_at=NOW, prices=Prices(1, 1))
    assert all(cost.rows == cost.stored_bytes == cost.cost_per_month == 0 for cost in (*found.now, *found.then))

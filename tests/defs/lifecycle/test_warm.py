"""The aging assets: due days move without an operator, and the recall gate is a check of the run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from akosha_assets.defs.aging import ranges
from akosha_assets.defs.lifecycle.cold import age_to_cold, cold, days_due
from akosha_assets.defs.lifecycle.warm import age_to_warm, warm
from akosha_assets.defs.schedules import MAX_RUNTIME
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.placement import days_in
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.settings import LakeSettings
from tests.lake.lifecycle.memories import hot_rows, store

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
NOW = datetime.now(UTC)
TODAY = NOW.date()
# Evaluates the sensor once: its requests and its cursor.
Sensed = Callable[..., tuple[Any, str | None]]


def days_ago(age: int) -> date:
    return TODAY - timedelta(days=age)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def run(
    asset: Any, lake: Lake, start: object, end: object, instance: dg.DagsterInstance, **more: Any
) -> dg.ExecuteInProcessResult:
    tags = dict(zip(RANGE, (str(start), str(end)), strict=True))
    return dg.materialize([asset], resources={"lake": lake}, tags=tags, instance=instance, **more)


def test_a_range_moves_its_due_days_in_one_run_and_materialises_only_those(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    for batch, age in enumerate((3, 8, 20), start=1):
        store(lake, hot_rows(days_ago(age), 30, first=batch * 100, batch=batch), batch=batch)
    result = run(warm, lake, days_ago(30), days_ago(0), instance)
    assert result.success
    assert instance.get_materialized_partitions(dg.AssetKey(["lifecycle", "warm"])) == {
        str(days_ago(8)),
        str(days_ago(20)),
    }
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    assert list(days_in(lake)["hot"]) == [days_ago(3)]


def test_the_recall_gate_is_a_blocking_check_with_the_recall(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    lake = Lake(LakeSettings(home=tmp_path, cold_recall=0.999))
    store(lake, hot_rows(days_ago(100), 300))
    result = run(cold, lake, days_ago(100), days_ago(100), instance, raise_on_error=False)
    assert not result.success
    [check] = result.get_asset_check_evaluations()
    assert not check.passed and check.blocking
    assert "under the 0.999" in check.description
    assert days_in(lake)["hot"][days_ago(100)].rows == 300


@pytest.fixture
def sensed(lake: Lake) -> Sensed:
    def ask(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"lake": lake})
        data = days_due.evaluate_tick(context)
        return data.run_requests, data.cursor

    return ask


def test_days_become_due_with_time_and_again_when_late_rows_arrive(
    lake: Lake, sensed: Sensed, instance: dg.DagsterInstance
) -> None:
    store(lake, hot_rows(days_ago(1), 5))
    found, cursor = sensed(instance)
    assert found == []
    store(lake, hot_rows(days_ago(8), 5, first=10, batch=2), batch=2)
    store(lake, hot_rows(days_ago(400), 5, first=20, batch=3), batch=3)
    store(lake, hot_rows(days_ago(6000), 5, first=30, batch=4), batch=4)
    found, cursor = sensed(instance, cursor)
    requested = {(request.job_name, *(request.tags[name] for name in RANGE)) for request in found}
    assert requested == {
        (age_to_cold.name, "2023-01-01", "2023-01-01"),
        (age_to_cold.name, str(days_ago(400)), str(days_ago(400))),
        (age_to_warm.name, str(days_ago(8)), str(days_ago(8))),
    }
    again, cursor = sensed(instance, cursor)
    assert again == []
    # Days before the first partition move with it.
    assert run(cold, lake, "2023-01-01", "2023-01-01", instance).success
    assert list(days_in(lake)["cold"]) == [days_ago(6000)]
    assert run(warm, lake, days_ago(8), days_ago(8), instance).success
    store(lake, hot_rows(days_ago(8), 6, first=50, batch=5), batch=5)
    found, _ = sensed(instance, cursor)
    assert age_to_warm.name in [request.job_name for request in found]


@pytest.mark.parametrize(("age", "is_requested"), [(timedelta(), False), (MAX_RUNTIME + timedelta(minutes=1), True)])
def test_a_run_that_never_ended_does_not_block_aging_for_ever(
    lake: Lake, sensed: Sensed, instance: dg.DagsterInstance, age: timedelta, is_requested: bool
) -> None:
    store(lake, hot_rows(days_ago(8), 5))
    with freeze_time(datetime.now(UTC) - age):
        create_run_for_test(instance, job_name=age_to_warm.name, status=dg.DagsterRunStatus.STARTED)
    found, _ = sensed(instance)
    assert bool(found) is is_requested


def test_a_first_upload_with_a_year_of_history_is_aged_by_two_runs(
    lake: Lake, sensed: Sensed, instance: dg.DagsterInstance
) -> None:
    store(lake, pa.concat_tables([hot_rows(days_ago(age), 1, first=age) for age in range(365)]))
    found, _ = sensed(instance)
    requested = {(request.job_name, *(request.tags[name] for name in RANGE)) for request in found}
    assert requested == {
        (age_to_cold.name, str(days_ago(364)), str(days_ago(90))),
        (age_to_warm.name, str(days_ago(89)), str(days_ago(7))),
    }


def test_a_backfill_converts_vectors_of_an_older_method(lake: Lake, instance: dg.DagsterInstance) -> None:
    older = replace(TierPolicy.of(lake.settings), vector_method="int8-scale/0", sketch_method="rotated-sign/0")
    for batch, age in enumerate((8, 30, 100), start=1):
        store(lake, hot_rows(days_ago(age), 30, first=batch * 100, batch=batch), batch=batch)
        age_day(lake, days_ago(age), move=Move(older, NOW, "long ago"), today=TODAY)
    assert run(warm, lake, days_ago(60), days_ago(0), instance).success
    for age in (8, 30):
        [event] = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["lifecycle", "warm"]), asset_partitions=[str(days_ago(age))]), limit=5
        ).records
        metadata = event.asset_materialization.metadata
        # The vectors are converted to the current method; their model is not that of the settings.
        assert (metadata["rows_requantised"].value, metadata["rows_left"].value, metadata["vector_method"].value) == (
            30,
            30,
            "int8-scale/1",
        )
    # A sketch cannot be converted: it has no numbers.
    cold_run = run(cold, lake, days_ago(100), days_ago(100), instance)
    assert cold_run.success and cold_run.asset_materializations_for_node("lifecycle__cold") == []
    assert lake.select("lifecycle/cold", ["policy_version"])["policy_version"].unique().to_pylist() == [older.version]


def test_days_far_apart_are_requested_as_separate_runs() -> None:
    first = days_ago(900)
    near, far = first + timedelta(days=60), first + timedelta(days=200)
    assert ranges([first, near, far]) == [(first, near), (far, far)]

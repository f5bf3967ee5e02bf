"""A new row with an assumed time stays in hot for a day, however old its time is."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.aging import due
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.retention import expire
from akosha_assets.lake.schemas import HOT
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store


def rows(age: int, *, occurred_from: str, arrived_at: datetime, batch: int = 1) -> pa.Table:
    table = hot_rows(days_ago(age), 3, first=batch * 10, batch=batch)
    for name, value in (("occurred_from", occurred_from), ("arrived_at", arrived_at)):
        position = table.schema.get_field_index(name)
        field = HOT.schema.field(name)
        table = table.set_column(position, field, pa.repeat(pa.scalar(value, field.type), table.num_rows))
    return table


@pytest.mark.parametrize("occurred_from", ["snapshot", "local_assumed_utc"])
@pytest.mark.parametrize(("hours", "stays"), [(1, True), (23, True), (72, False)])
def test_a_new_row_with_an_assumed_time_is_neither_aged_nor_deleted(
    lake: Lake, occurred_from: str, hours: int, stays: bool
) -> None:
    policy = TierPolicy.of(lake.settings)
    for batch, age in ((1, 30), (2, 20_000)):
        arrived_at = NOW - timedelta(hours=hours)
        store(lake, rows(age, occurred_from=occurred_from, arrived_at=arrived_at, batch=batch), batch=batch)
    assert [one.event_day for one in due(lake, policy, TODAY)] == ([] if stays else [days_ago(20_000), days_ago(30)])
    expire(lake, policy, today=TODAY, run="run", dry_run=False)
    assert lake.select(HOT.address, ["id"]).num_rows == (6 if stays else 3)


@pytest.mark.parametrize("occurred_from", ["utc", "ulid", "uuid7", "ulid_offset", "zone_inferred"])
def test_a_new_row_with_a_proven_time_is_aged_at_once(lake: Lake, occurred_from: str) -> None:
    store(lake, rows(30, occurred_from=occurred_from, arrived_at=NOW))
    assert [one.event_day for one in due(lake, TierPolicy.of(lake.settings), TODAY)] == [days_ago(30)]


def test_a_day_waits_only_for_its_own_rows(lake: Lake) -> None:
    store(lake, rows(30, occurred_from="snapshot", arrived_at=NOW), batch=1)
    store(lake, rows(31, occurred_from="snapshot", arrived_at=NOW - timedelta(days=3), batch=2), batch=2)
    assert [one.event_day for one in due(lake, TierPolicy.of(lake.settings), TODAY)] == [days_ago(31)]

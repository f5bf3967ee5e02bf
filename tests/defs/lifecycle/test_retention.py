"""Rows past the cold window are counted every night, and deleted only if a setting says so."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from akosha_assets.defs.lifecycle.retention import apply_retention_nightly, retention
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.placement import days_in
from akosha_assets.lake.lifecycle.retention import Hold, place
from akosha_assets.lake.settings import LakeSettings
from tests.lake.lifecycle.memories import hot_rows, store

NOW = datetime.now(UTC)
LONG_AGO = NOW.date() - timedelta(days=3000)


@pytest.mark.parametrize("deletes", [False, True])
def test_rows_past_the_window_are_counted_and_deleted_if_a_setting_says_so(tmp_path: Path, deletes: bool) -> None:
    lake = Lake(LakeSettings(home=tmp_path, retention_deletes=deletes))
    store(lake, hot_rows(LONG_AGO, 30))
    place(lake, Hold("case-1", "system-1", None, None, "litigation"), changed_at=NOW)
    with dg.instance_for_test() as instance:
        result = dg.materialize([retention], resources={"lake": lake}, instance=instance)
    [materialization] = result.asset_materializations_for_node("lifecycle__retention")
    shown: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
    assert (shown["rows_past_retention"], shown["rows_held"], shown["is_dry_run"]) == (20, 10, not deletes)
    assert shown["rows_by_tier"] == {"hot": 20} and shown["holds"][0]["hold_id"] == "case-1"
    assert days_in(lake)["hot"][LONG_AGO].rows == (10 if deletes else 30)


def test_the_schedule_runs_by_default() -> None:
    assert apply_retention_nightly.default_status == dg.DefaultScheduleStatus.RUNNING

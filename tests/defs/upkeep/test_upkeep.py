"""The upkeep assets run on real tables and report what they did."""

from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from akosha_assets.defs.upkeep.backup import backup, request_back_up
from akosha_assets.defs.upkeep.compaction import compaction
from akosha_assets.defs.upkeep.restore_drill import restore_drill
from akosha_assets.defs.upkeep.vacuum import request_vacuum, vacuum
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.lake.lifecycle.memories import days_ago, hot_rows, store


def test_tables_are_compacted_vacuumed_and_backed_up_and_the_backup_is_verified(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path / "home", backup_url=str(tmp_path / "backup")))
    for batch in range(1, 5):
        store(lake, hot_rows(days_ago(3), 5, first=batch * 10, batch=batch), batch=batch)
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [compaction, vacuum, backup, restore_drill], resources={"lake": lake}, instance=instance
        )
    assert result.success
    [packed] = result.asset_materializations_for_node("upkeep__compaction")
    hot: Any = packed.metadata["lifecycle/hot"].value
    assert (hot["files_after"], hot["partitions"]) == (1, 1)
    [drilled] = result.asset_materializations_for_node("upkeep__restore_drill")
    assert drilled.metadata["rows"].value == 20


def test_backups_are_skipped_without_a_url_and_the_vacuum_on_sundays_is_full(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    assert isinstance(request_back_up(dg.build_schedule_context(), lake), dg.SkipReason)
    with_backups = Lake(LakeSettings(home=tmp_path, backup_url=str(tmp_path / "backup")))
    assert isinstance(request_back_up(dg.build_schedule_context(), with_backups), dg.RunRequest)
    for day, is_full in ((22, True), (23, False)):
        at = datetime.fromisoformat(f"2026-11-{day}T02:41:00+00:00")
        request = request_vacuum(dg.build_schedule_context(scheduled_execution_time=at), lake)
        assert request.run_config["ops"]["upkeep__vacuum"]["config"]["is_full"] is is_full

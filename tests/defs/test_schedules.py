"""Scheduled jobs run one at a time and leave a slot to ingestion."""

import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from akosha_assets.definitions import defs
from akosha_assets.defs.graph.near_duplicates import near_duplicates
from akosha_assets.defs.ingestion.uploads import INGEST_JOB
from akosha_assets.defs.lifecycle.retention import retention
from akosha_assets.defs.lifecycle.warm import warm
from akosha_assets.defs.schedules import MAX_RUNTIME, run_in_progress
from akosha_assets.defs.upkeep.backup import backup
from akosha_assets.defs.upkeep.compaction import compaction
from akosha_assets.defs.upkeep.inbox import inbox
from akosha_assets.defs.upkeep.restore_drill import restore_drill
from akosha_assets.defs.upkeep.vacuum import vacuum
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger import duty_lease
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty, hold, hold_extended
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings

ROOT = Path(__file__).parents[2]
REPOSITORY = defs().get_repository_def()
SCHEDULES = sorted(REPOSITORY.schedule_defs, key=lambda schedule: schedule.name)


def with_run(instance: dg.DagsterInstance, job_name: str, status: dg.DagsterRunStatus) -> str:
    from dagster._core.test_utils import create_run_for_test

    return create_run_for_test(instance, job_name=job_name, status=status).run_id


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_tick_is_skipped_while_a_run_is_under_way_or_queued(
    schedule: dg.ScheduleDefinition, status: dg.DagsterRunStatus, tmp_path: Path
) -> None:
    with dg.instance_for_test() as instance:
        run = with_run(instance, schedule.job_name, status)
        lake = Lake(LakeSettings(home=tmp_path))
        context = dg.build_schedule_context(instance, datetime.now(UTC), resources={"lake": lake})
        outcome = schedule.evaluate_tick(context)
    assert not outcome.run_requests
    assert outcome.skip_message == f"run {run[:8]} of {schedule.job_name} is {status.value.lower()}"


def test_a_run_whose_machine_died_counts_no_longer_than_a_run_may_take() -> None:
    with dg.instance_for_test() as instance:
        with_run(instance, "embed", dg.DagsterRunStatus.STARTED)
        now = datetime.now(UTC)
        assert run_in_progress(instance, "embed", now=now) is not None
        assert run_in_progress(instance, "embed", now=now + MAX_RUNTIME + timedelta(minutes=1)) is None
        # It started while the clock was ahead.
        assert run_in_progress(instance, "embed", now=now - timedelta(days=3650)) is None


DUTIES = {
    Duty.COMPACTION: [compaction],
    Duty.VACUUM: [vacuum],
    Duty.BACKUP: [backup, restore_drill],
    Duty.RETENTION: [retention],
    Duty.NEAR_DUPLICATES: [near_duplicates],
    Duty.INBOX: [inbox],
}


def test_a_run_does_nothing_while_another_process_holds_the_lease(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path, backup_url=str(tmp_path / "backup")))
    with dg.instance_for_test() as instance, closing(Ledger.open(lake.settings)) as ledger, ExitStack() as stack:
        for duty in DUTIES:
            assert stack.enter_context(hold(ledger, duty)) is not None
        result = dg.materialize(
            [one for assets in DUTIES.values() for one in assets], resources={"lake": lake}, instance=instance
        )
    assert result.success
    assert result.get_asset_materialization_events() == []
    assert not (tmp_path / "backup").exists()


def test_aging_fails_while_another_process_ages(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    with (
        dg.instance_for_test() as instance,
        closing(Ledger.open(lake.settings)) as ledger,
        hold(ledger, Duty.AGING),
    ):
        result = dg.materialize(
            [warm], resources={"lake": lake}, instance=instance, partition_key="2026-01-01", raise_on_error=False
        )
    assert not result.success and result.get_asset_check_evaluations() == []


def test_a_lease_is_extended_while_the_work_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_lease, "EXTEND_AFTER", timedelta(milliseconds=10))
    with (
        closing(Ledger.open(LakeSettings(home=tmp_path))) as ledger,
        hold_extended(ledger, Duty.VACUUM) as lease,
    ):
        assert lease is not None
        before = lease.extended_at
        deadline = time.monotonic() + 20
        while lease.extended_at == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.extended_at > before


def test_ingestion_goes_first_and_always_has_a_slot() -> None:
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    runs = settings["concurrency"]["runs"]
    (limit,) = runs["tag_concurrency_limits"]
    assert limit["limit"] < runs["max_concurrent_runs"]
    assert timedelta(seconds=settings["run_monitoring"]["max_runtime_seconds"]) == MAX_RUNTIME
    jobs = {job.name: job.tags for job in REPOSITORY.get_all_jobs()}
    scheduled = {schedule.job_name for schedule in SCHEDULES} | {"age_to_warm", "age_to_cold"}
    assert all(jobs[name].get(limit["key"]) == limit["value"] for name in scheduled)
    assert int(jobs[INGEST_JOB]["dagster/priority"]) > max(int(jobs[name]["dagster/priority"]) for name in scheduled)
    assert limit["key"] not in jobs[INGEST_JOB]

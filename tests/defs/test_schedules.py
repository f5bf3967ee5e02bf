"""Scheduled jobs run one at a time and leave a slot to ingestion."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from akosha_assets.definitions import defs
from akosha_assets.defs.ingestion.uploads import INGEST_JOB
from akosha_assets.defs.schedules import LONGEST_RUN, run_under_way

ROOT = Path(__file__).parents[2]
REPOSITORY = defs().get_repository_def()
SCHEDULES = sorted(REPOSITORY.schedule_defs, key=lambda schedule: schedule.name)


def with_run(instance: dg.DagsterInstance, job_name: str, status: dg.DagsterRunStatus) -> str:
    from dagster._core.test_utils import create_run_for_test

    return create_run_for_test(instance, job_name=job_name, status=status).run_id


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_tick_is_skipped_while_a_run_is_under_way_or_queued(
    schedule: dg.ScheduleDefinition, status: dg.DagsterRunStatus
) -> None:
    with dg.instance_for_test() as instance:
        run = with_run(instance, schedule.job_name, status)
        context = dg.build_schedule_context(instance, scheduled_execution_time=datetime.now(UTC))
        outcome = schedule.evaluate_tick(context)
    assert not outcome.run_requests
    assert outcome.skip_message == f"run {run[:8]} of {schedule.job_name} is {status.value.lower()}"


def test_a_run_whose_machine_died_counts_no_longer_than_a_run_may_take() -> None:
    with dg.instance_for_test() as instance:
        with_run(instance, "embed", dg.DagsterRunStatus.STARTED)
        now = datetime.now(UTC)
        assert run_under_way(instance, "embed", now=now) is not None
        assert run_under_way(instance, "embed", now=now + LONGEST_RUN + timedelta(minutes=1)) is None
        # It began while the clock was ahead.
        assert run_under_way(instance, "embed", now=now - timedelta(days=3650)) is None


def test_ingestion_goes_first_and_always_has_a_slot() -> None:
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    runs = settings["concurrency"]["runs"]
    (limit,) = runs["tag_concurrency_limits"]
    assert limit["limit"] < runs["max_concurrent_runs"]
    assert timedelta(seconds=settings["run_monitoring"]["max_runtime_seconds"]) == LONGEST_RUN
    jobs = {job.name: job.tags for job in REPOSITORY.get_all_jobs()}
    scheduled = {schedule.job_name for schedule in SCHEDULES} | {"age_to_warm", "age_to_cold"}
    assert all(jobs[name].get(limit["key"]) == limit["value"] for name in scheduled)
    assert int(jobs[INGEST_JOB]["dagster/priority"]) > max(int(jobs[name]["dagster/priority"]) for name in scheduled)
    assert limit["key"] not in jobs[INGEST_JOB]

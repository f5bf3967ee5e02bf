"""How every scheduled job runs: one at a time, behind ingestion. A tick while a run is under way or queued is skipped
with its reason.

Dagster's run status is no lock: a run whose machine died stays STARTED. One that is older than any run may become
counts as dead, and work that must not run twice holds a lease in the ledger as well
(`lake/ingestion/ledger/duty_lease.py`).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from akosha_assets.defs.ingestion.uploads import IN_PROGRESS

# `dagster.yaml` ends a run after this long (`max_runtime_seconds`).
LONGEST_RUN = timedelta(hours=2)
# At most so many of the run slots that `dagster.yaml` has are taken by runs with this tag: ingestion always has one.
BACKGROUND = {"akosha/background": "true", "dagster/priority": "-10", "dagster/max_retries": "0"}

Request = Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]


def one_at_a_time(
    job: dg.JobDefinition | UnresolvedAssetJobDefinition,
    *,
    name: str,
    cron: str,
    description: str,
    request: Request = lambda _: dg.RunRequest(),
) -> dg.ScheduleDefinition:
    """A running schedule that asks for what `request` returns, unless a run of the job is under way or queued."""

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if (reason := run_under_way(context.instance, job.name, now=datetime.now(UTC))) is not None:
            return dg.SkipReason(reason)
        return request(context)

    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        description=description,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_fn=evaluate,
    )


def run_under_way(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> str | None:
    """Which run of the job is under way or queued; None where there is none."""
    from akosha_assets.lake.ingestion.ledger.plausible import is_within

    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=IN_PROGRESS), limit=10):
        run = record.dagster_run
        if run.status == dg.DagsterRunStatus.QUEUED or is_within(record.create_timestamp, now, LONGEST_RUN):
            return f"run {run.run_id[:8]} of {job_name} is {run.status.value.lower()}"
    return None

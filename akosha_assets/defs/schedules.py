"""How scheduled jobs run: one run of a job at a time, behind ingestion.

A tick is skipped while a run of the job is under way or queued. Dagster's run status is not a lock: a run whose machine
died stays STARTED, so one that is older than `MAX_RUNTIME` does not count. Work that must not run twice at the same
time holds a lease in the ledger as well.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty

# `dagster.yaml` ends a run after this long (`max_runtime_seconds`).
MAX_RUNTIME = timedelta(hours=2)
# `dagster.yaml` limits how many runs with this tag may run, so that ingestion always has a slot.
BACKGROUND = {"akosha/background": "true", "dagster/priority": "-10", "dagster/max_retries": "0"}
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

Request = Callable[[dg.ScheduleEvaluationContext, Lake], dg.RunRequest | dg.SkipReason]


def one_at_a_time(
    job: dg.JobDefinition | UnresolvedAssetJobDefinition,
    *,
    name: str,
    cron: str,
    description: str,
    request: Request = lambda _context, _lake: dg.RunRequest(),
) -> dg.ScheduleDefinition:
    """A schedule, running by default, that asks for what `request` returns unless a run of the job is in progress."""

    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if (reason := run_in_progress(context.instance, job.name, now=datetime.now(UTC))) is not None:
            return dg.SkipReason(reason)
        return request(context, context.resources.lake)

    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        description=description,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_fn=evaluate,
        required_resource_keys={"lake"},
    )


def run_in_progress(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> str | None:
    """Which run of the job is under way or queued; None if there is none."""
    from akosha_assets.lake.ingestion.ledger.plausible import is_within

    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=IN_PROGRESS), limit=10):
        run = record.dagster_run
        if run.status == dg.DagsterRunStatus.QUEUED or is_within(record.create_timestamp, now, MAX_RUNTIME):
            return f"run {run.run_id[:8]} of {job_name} is {run.status.value.lower()}"
    return None


@contextmanager
def exclusive(lake: Lake, duty: Duty, log: dg.DagsterLogManager) -> Iterator[bool]:
    """Whether this run holds the lease on `duty`. If another process holds it, the caller does nothing."""
    from akosha_assets.lake.ingestion.ledger.duty_lease import hold_extended
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger

    with closing(Ledger.open(lake.settings)) as ledger, hold_extended(ledger, duty) as lease:
        if lease is None:
            log.info("another process holds the lease on %s; this run does nothing", duty)
        yield lease is not None

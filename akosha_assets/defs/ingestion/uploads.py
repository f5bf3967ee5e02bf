"""`ingestion/uploads`: the objects of the inbox, and the sensor that discovers them.

Session-Buddy writes the inbox, so to Dagster it is external. The sensor lists a bounded part of it per tick, records
new uploads in the ledger and requests an ingest run. The ledger, not a cursor or a run key, knows which uploads wait.
"""

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, counted
from akosha_assets.defs.schedules import IN_PROGRESS
from akosha_assets.lake.catalog import Lake

INGEST_JOB = "ingest"
RECENT_RUNS = 10
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
uploads = dg.AssetSpec(
    ["ingestion", "uploads"],
    description=(
        "Snapshots that the fleet's Session-Buddy instances upload to the inbox bucket: two databases and, last, a "
        "manifest."
    ),
    group_name="ingestion",
    owners=OWNERS,
    kinds={"s3", "duckdb"},
)


@dg.sensor(job_name=INGEST_JOB, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def upload_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Discovers uploads for at most AKOSHA_TICK_SECONDS, and requests an ingest run if more uploads wait than the runs
    in progress will ingest.
    """
    from akosha_assets.lake.ingestion import backlog
    from akosha_assets.lake.ingestion.inbox import notifications
    from akosha_assets.lake.ingestion.ledger import claims
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.watch import bootstrap

    settings, now = lake.settings, datetime.now(UTC)
    ledger = Ledger.open(settings)
    try:
        swept = notifications.discover(settings, ledger, now=now)
        measured = backlog.measure(ledger, now=datetime.now(UTC))
        is_due = claims.anything_due(ledger, now=datetime.now(UTC))
        is_orchestrated = bootstrap.steps_back(ledger)
    finally:
        ledger.close()
    events: list[dg.AssetMaterialization] = []
    if swept.added:
        counts = {"found": swept.added, "objects listed": swept.listed, "waiting": measured.waiting}
        events.append(
            dg.AssetMaterialization(
                ["ingestion", "uploads"], metadata={"found": swept.added, "listing": counted(counts)}
            )
        )
    state = (
        f"{measured.waiting} uploads wait, {measured.claimed} of them in an ingest run; {swept.added} new, "
        f"{swept.listed} objects listed"
    )
    if is_orchestrated:
        return dg.SensorResult(skip_reason=f"the orchestrator requests runs: {state}", asset_events=events)
    reason = reason_to_wait(
        context.instance,
        now=now,
        is_due=is_due,
        live_batches=measured.live_batches - measured.expired_leases,
        patience=timedelta(seconds=2 * settings.lease_seconds),
        wanted=min(settings.ingest_runs, max(1, (measured.waiting - measured.claimed) // settings.batch_uploads)),
    )
    if reason:
        return dg.SensorResult(skip_reason=f"{reason}: {state}", asset_events=events)
    return dg.SensorResult([dg.RunRequest()], asset_events=events)


def reason_to_wait(
    instance: dg.DagsterInstance,
    *,
    now: datetime,
    is_due: bool,
    live_batches: int,
    patience: timedelta,
    wanted: int = 1,
) -> str | None:
    """Why no ingest run is requested now; None if one more is needed to have `wanted` of them.

    A run whose machine died stays STARTED in Dagster. A run in progress for longer than `patience` while no batch holds
    a lease counts as dead; should it still be alive, the fence keeps it from writing. After failed runs the pause
    doubles, up to five minutes.
    """
    if not is_due:
        return "no upload is due"
    from akosha_assets.lake.ingestion.ledger.plausible import is_within

    records = instance.get_run_records(dg.RunsFilter(job_name=INGEST_JOB), limit=RECENT_RUNS)
    in_progress = [
        f"run {record.dagster_run.run_id[:8]} is {status.value.lower()}"
        for record in records
        if (status := record.dagster_run.status) in IN_PROGRESS
        and (status == dg.DagsterRunStatus.QUEUED or live_batches or is_within(record.create_timestamp, now, patience))
    ]
    if len(in_progress) >= wanted:
        return ", ".join(in_progress)
    failed = list(takewhile(lambda record: record.dagster_run.status == dg.DagsterRunStatus.FAILURE, records))
    if failed:
        again_at = datetime.fromtimestamp(failed[0].end_time or 0, UTC) + min(
            FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE
        )
        if now < again_at and is_within(again_at, now, LONGEST_PAUSE):
            return f"the last {len(failed)} ingest runs failed; the next one may start at {again_at:%H:%M:%S} UTC"
    return None

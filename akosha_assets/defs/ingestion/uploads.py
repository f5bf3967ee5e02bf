"""`ingestion/uploads`: what lies in the inbox, and the sensor that sees it.

Session-Buddy writes the inbox, so Dagster only shows it. The sensor lists a bounded stretch, writes what it finds into
the ledger and asks for an ingest run; the ledger, not a cursor or a run key, knows what still waits.
"""

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, counted
from akosha_assets.lake.settings import LakeSettings

INGEST_JOB = "ingest"
RUNS_LOOKED_AT = 10
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

uploads = dg.AssetSpec(
    ["ingestion", "uploads"],
    description=(
        "Snapshots that the fleet's Session-Buddy instances put into the inbox bucket: two databases and, "
        "last, a manifest."
    ),
    group_name="ingestion",
    owners=OWNERS,
    kinds={"s3", "duckdb"},
)


@dg.sensor(job_name=INGEST_JOB, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def upload_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Looks for uploads for at most AKOSHA_TICK_SECONDS and asks for an ingest run while more waits than those under
    way take.
    """
    from akosha_assets.lake.ingestion import backlog
    from akosha_assets.lake.ingestion.inbox import notifications
    from akosha_assets.lake.ingestion.ledger import claims
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.watch import bootstrap

    settings, now = LakeSettings(), datetime.now(UTC)
    ledger = Ledger.open(settings)
    try:
        swept = notifications.discover(settings, ledger, now=now)
        measured = backlog.measure(ledger, now=datetime.now(UTC))
        is_due = claims.anything_due(ledger, now=datetime.now(UTC))
        is_asked_for = bootstrap.steps_back(ledger)
    finally:
        ledger.close()
    seen: list[dg.AssetMaterialization] = []
    if swept.added:
        counts = {"found": swept.added, "objects listed": swept.listed, "waiting": measured.waiting}
        seen.append(
            dg.AssetMaterialization(
                ["ingestion", "uploads"], metadata={"found": swept.added, "listing": counted(counts)}
            )
        )
    state = (
        f"{measured.waiting} uploads wait, {measured.claimed} of them in an ingest run; {swept.added} found, "
        f"{swept.listed} objects listed"
    )
    if is_asked_for:
        return dg.SensorResult(skip_reason=f"the orchestrator asks for runs: {state}", asset_events=seen)
    why_not = reason_to_wait(
        context.instance,
        now=now,
        is_due=is_due,
        live_batches=measured.live_batches - measured.expired_leases,
        patience=timedelta(seconds=2 * settings.lease_seconds),
        wanted=min(settings.ingest_runs, max(1, (measured.waiting - measured.claimed) // settings.batch_uploads)),
    )
    if why_not:
        return dg.SensorResult(skip_reason=f"{why_not}: {state}", asset_events=seen)
    return dg.SensorResult([dg.RunRequest()], asset_events=seen)


def reason_to_wait(
    instance: dg.DagsterInstance,
    *,
    now: datetime,
    is_due: bool,
    live_batches: int,
    patience: timedelta,
    wanted: int = 1,
) -> str | None:
    """Why no ingest run is asked for now, or None where one more is needed to have `wanted` of them.

    A run whose process died with its machine stays STARTED for ever. One that has been in progress for longer than
    `patience` while no batch holds a lease counts as dead; the fence makes it harmless should it wake up. After runs
    that failed the pause doubles, up to five minutes.
    """
    if not is_due:
        return "nothing can be taken in now"
    from akosha_assets.lake.ingestion.ledger.plausible import is_within

    records = instance.get_run_records(dg.RunsFilter(job_name=INGEST_JOB), limit=RUNS_LOOKED_AT)
    under_way = [
        f"run {record.dagster_run.run_id[:8]} is {status.value.lower()}"
        for record in records
        if (status := record.dagster_run.status) in IN_PROGRESS
        and (status == dg.DagsterRunStatus.QUEUED or live_batches or is_within(record.create_timestamp, now, patience))
    ]
    if len(under_way) >= wanted:
        return ", ".join(under_way)
    failed = list(takewhile(lambda record: record.dagster_run.status == dg.DagsterRunStatus.FAILURE, records))
    if failed:
        again_at = datetime.fromtimestamp(failed[0].end_time or 0, UTC) + min(
            FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE
        )
        if now < again_at and is_within(again_at, now, LONGEST_PAUSE):
            return f"the last {len(failed)} ingest runs failed; the next one may start at {again_at:%H:%M:%S} UTC"
    return None

"""Conditions that Dagster's state shows: failed runs and checks, late assets, silent daemons, sensors and schedules
that are stopped, fail or do not tick.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition
from akosha_assets.lake.watch.orchestration import Orchestration
from akosha_assets.lake.watch.outage import down_for

BACKLOG_ASSET = "ingestion/backlog"
HEARTBEAT_SECONDS = 120
SENSOR_LAG_SECONDS = 300
# Without these, nothing is found, ingested or watched.
ESSENTIAL = frozenset(("upload_sensor", "backlog_sensor"))
# The runbook of an asset's checks and freshness: by asset, else by group, else `failed-run`.
ASSET_RUNBOOKS = {
    "ingestion": Runbook.INGESTION_BACKLOG,
    "lifecycle/aging": Runbook.AGING_LATE,
    "lifecycle/embeddings": Runbook.EMBEDDINGS_LATE,
    "lifecycle/warm": Runbook.RECALL_CHECK_FAILED,
    "lifecycle/cold": Runbook.RECALL_CHECK_FAILED,
}
JOB_RUNBOOKS = {
    "ingest": Runbook.INGESTION_BACKLOG,
    "embed": Runbook.EMBEDDINGS_LATE,
    "age_to_warm": Runbook.AGING_LATE,
    "age_to_cold": Runbook.AGING_LATE,
}
# Judged together from one answer of Dagster.
SCOPES = (
    *(Scope.RUN, Scope.CHECK, Scope.FRESHNESS, Scope.DAEMON, Scope.SENSOR, Scope.SCHEDULE, Scope.STOPPED),
    *(Scope.TICK, Scope.DAGSTER),
)


def of_dagster(state: Orchestration) -> list[Condition]:
    """What `state` shows by itself."""
    return [*_of_runs(state), *_of_assets(state), *_of_daemons(state), *_of_ticks(state)]


def of_missing_ticks(ledger: Ledger, state: Orchestration, *, now: datetime) -> list[Condition]:
    """Sensors that run and never ticked, and schedules without a tick that was due, for long enough."""
    found = []
    for sensor in state.never_ticked:
        if down_for(ledger, f"sensor/{sensor}", is_up=False, now=now) >= timedelta(seconds=SENSOR_LAG_SECONDS):
            detail = f"sensor `{sensor}` is running and has never ticked; expected a tick within {SENSOR_LAG_SECONDS} s"
            found.append(_missing(Scope.SENSOR, sensor, f"Sensor {sensor} does not tick", detail))
    for schedule, due_at in state.missed_ticks.items():
        detail = f"schedule `{schedule}` did not tick at {datetime.fromtimestamp(due_at, UTC):%Y-%m-%d %H:%M} UTC"
        found.append(_missing(Scope.SCHEDULE, schedule, f"Schedule {schedule} does not tick", detail))
    return found


def _of_runs(state: Orchestration) -> Iterator[Condition]:
    for job, run in state.failed_last.items():
        detail = f"the last run of job `{job}` ({run[:8]}) failed"
        runbook = JOB_RUNBOOKS.get(job, Runbook.FAILED_RUN)
        yield Condition(f"{Scope.RUN}/{job}", Severity.WARNING, f"Job {job} fails", detail, runbook)


def _of_assets(state: Orchestration) -> Iterator[Condition]:
    for check in state.failed_checks:
        if check.asset == BACKLOG_ASSET:
            # `conditions.of_backlog` judges the same limits from the same ledger.
            continue
        yield Condition(
            key=f"{Scope.CHECK}/{check.asset}/{check.name}",
            severity=Severity.CRITICAL if check.severity == "ERROR" else Severity.WARNING,
            title=f"Check {check.name} of {check.asset} fails",
            detail=check.reason,
            runbook=_runbook_of(check.asset),
        )
    for asset, freshness in state.freshness.items():
        if freshness in ("warning", "degraded"):
            yield Condition(
                key=f"{Scope.FRESHNESS}/{asset}",
                severity=Severity.CRITICAL if freshness == "degraded" else Severity.WARNING,
                title=f"{asset} is late",
                detail=f"the freshness of {asset} is {freshness}: it was not materialized within its window",
                runbook=_runbook_of(asset),
            )


def _of_daemons(state: Orchestration) -> Iterator[Condition]:
    for daemon, seconds in state.heartbeat_seconds.items():
        if seconds > HEARTBEAT_SECONDS:
            yield Condition(
                key=f"{Scope.DAEMON}/{daemon}",
                severity=Severity.CRITICAL,
                title=f"Daemon {daemon} is silent",
                detail=(
                    f"the last heartbeat of Dagster's daemon `{daemon}` was {min(seconds, 1e6):,.0f} s ago; sensors, "
                    "schedules and freshness stand still"
                ),
                runbook=Runbook.ORCHESTRATOR_UNREACHABLE,
            )


def _of_ticks(state: Orchestration) -> Iterator[Condition]:
    for sensor, seconds in state.sensor_lag_seconds.items():
        if seconds > SENSOR_LAG_SECONDS:
            detail = f"the next tick of sensor `{sensor}` is {seconds:,.0f} s overdue"
            yield _missing(Scope.SENSOR, sensor, f"Sensor {sensor} is late", detail)
    for name, kind in state.stopped.items():
        yield Condition(
            key=f"{Scope.STOPPED}/{name}",
            severity=_severity_of(name),
            title=f"{kind.capitalize()} {name} is stopped",
            detail=f"{kind} `{name}` is stopped in Dagster; what it starts does not run",
            runbook=Runbook.SENSOR_OR_SCHEDULE_STOPPED,
        )
    for name, kind in state.failing.items():
        yield Condition(
            key=f"{Scope.TICK}/{name}",
            severity=_severity_of(name),
            title=f"{kind.capitalize()} {name} fails",
            detail=f"the last tick of {kind} `{name}` failed; its page in Dagster shows the error",
            runbook=Runbook.FAILING_TICKS,
        )


def _missing(scope: Scope, name: str, title: str, detail: str) -> Condition:
    return Condition(f"{scope}/{name}", _severity_of(name), title, detail, Runbook.MISSING_TICKS)


def _severity_of(name: str) -> Severity:
    return Severity.CRITICAL if name in ESSENTIAL else Severity.WARNING


def _runbook_of(asset: str) -> Runbook:
    return ASSET_RUNBOOKS.get(asset) or ASSET_RUNBOOKS.get(asset.split("/")[0]) or Runbook.FAILED_RUN

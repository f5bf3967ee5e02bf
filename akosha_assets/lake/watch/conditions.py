"""What counts as trouble: readings in, conditions out. `look` takes the readings and tells the alerts.

A scope that could not be read is not judged, so that a blind moment resolves nothing.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from akosha_assets.lake.errors import OrchestratorUnavailable
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.backlog import Backlog
from akosha_assets.lake.ingestion.inbox import sweep_record
from akosha_assets.lake.ingestion.ledger import known_tables, outages
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.watch import alerts, bootstrap, orchestration
from akosha_assets.lake.watch.alerts import CRITICAL, WARNING, Condition
from akosha_assets.lake.watch.orchestration import Orchestration
from akosha_assets.lake.watch.outage import down_for

BURST = timedelta(minutes=10)
HEARTBEAT_SECONDS = 120
BACKLOG = "ingestion/backlog"
SENSOR_LAG_SECONDS = 300
SEVERITY = {"warn": WARNING, "error": CRITICAL}
RUNBOOKS = {"ingestion": "ingestion-backlog"}


def of_backlog(ledger: Ledger, measured: Backlog) -> list[Condition]:
    """A backlog that is too large or too old, and quarantines that come in bursts."""
    found = []
    verdicts = {"size": backlog.judge_size(ledger, measured), "age": backlog.judge_age(ledger.settings, measured)}
    for name, verdict in verdicts.items():
        if verdict.level != "ok":
            title = {"size": "Uploads pile up", "age": "Uploads wait too long"}[name]
            found.append(
                Condition(f"backlog/{name}", SEVERITY[verdict.level], title, verdict.reason, "ingestion-backlog")
            )
    since = measured.measured_at - BURST
    query = (
        sa.select(uploads.c.reason, sa.func.count())
        .where(uploads.c.state == "quarantined", uploads.c.claimed_at > since)
        .group_by(uploads.c.reason)
    )
    with ledger.read() as connection:
        recent = dict(connection.execute(query).tuples().all())
    total = sum(recent.values())
    if total >= ledger.settings.alert_quarantined_uploads:
        reasons = ", ".join(
            f"{reason} {count:,}" for reason, count in sorted(recent.items(), key=lambda item: -item[1])[:5]
        )
        detail = f"{total:,} uploads were quarantined within {BURST.seconds // 60} minutes: {reasons}"
        found.append(
            Condition("backlog/quarantine", WARNING, "Many uploads are quarantined", detail, "poisoned-uploads")
        )
    return found


def of_outages(ledger: Ledger) -> list[Condition]:
    """A store or disk that interrupts discovery or ingestion; uploads wait meanwhile, and none is blamed."""
    found = []
    for outage in outages.find_all(ledger):
        detail = (
            f"{outage.step} failed {outage.failures} times since {outage.since:%Y-%m-%d %H:%M} UTC, the last "
            f"time: {outage.message}"
        )
        runbook = "disk-full" if outage.kind == "LocalStorageFailed" else "object-storage-down"
        found.append(
            Condition(f"outage/{outage.step}", CRITICAL, f"An outage interrupts {outage.step}", detail, runbook)
        )
    return found


def of_lost_tables(ledger: Ledger) -> list[Condition]:
    """A table that was written to and that ingestion no longer found as it was."""
    lost = known_tables.lost(ledger)
    if lost is None:
        return []
    address, found = lost
    detail = f"{address} {found}; ingestion has stopped and nothing is written"
    return [Condition(f"table/{address}", CRITICAL, f"Table {address} is lost", detail, "hot-tier-loss")]


def of_dagster(state: Orchestration) -> list[Condition]:
    """Jobs whose last run failed, checks that fail, assets that are late, daemons and sensors that stand still."""
    found = []
    for job, run in state.failed_last.items():
        detail = f"the last run of job `{job}` ({run[:8]}) failed"
        found.append(
            Condition(
                f"run/{job}",
                WARNING,
                f"Job {job} fails",
                detail,
                "ingestion-backlog" if job == "ingest" else "failed-run",
            )
        )
    for check in state.failed_checks:
        if check.asset == BACKLOG:
            # The same limits as `of_backlog`, from the same ledger: one trouble, told once.
            continue
        severity = CRITICAL if check.severity == "ERROR" else WARNING
        runbook = RUNBOOKS.get(check.asset.split("/")[0], "failed-run")
        found.append(
            Condition(
                f"check/{check.asset}/{check.name}",
                severity,
                f"Check {check.name} of {check.asset} fails",
                check.reason,
                runbook,
            )
        )
    for asset, freshness in state.freshness.items():
        if freshness in ("warning", "degraded"):
            severity = CRITICAL if freshness == "degraded" else WARNING
            runbook = RUNBOOKS.get(asset.split("/")[0], "failed-run")
            detail = f"the freshness of {asset} is {freshness}: it was not recorded within its window"
            found.append(Condition(f"freshness/{asset}", severity, f"{asset} is late", detail, runbook))
    for daemon, seconds in state.heartbeat_seconds.items():
        if seconds > HEARTBEAT_SECONDS:
            detail = (
                f"Dagster's daemon `{daemon}` last reported itself {min(seconds, 1e6):,.0f} s ago; freshness "
                "and sensors stand still"
            )
            found.append(
                Condition(
                    f"daemon/{daemon}", CRITICAL, f"Daemon {daemon} stands still", detail, "orchestrator-unreachable"
                )
            )
    for sensor, seconds in state.sensor_lag_seconds.items():
        if seconds > SENSOR_LAG_SECONDS:
            detail = f"sensor `{sensor}` is {seconds:,.0f} s overdue"
            found.append(
                Condition(f"sensor/{sensor}", WARNING, f"Sensor {sensor} is late", detail, "orchestrator-unreachable")
            )
    for name, kind in state.stopped.items():
        severity = CRITICAL if name in NEEDED else WARNING
        detail = f"{kind} `{name}` is switched off in Dagster; what it starts does not run"
        found.append(
            Condition(
                f"stopped/{name}",
                severity,
                f"{kind.capitalize()} {name} is switched off",
                detail,
                "sensor-or-schedule-stopped",
            )
        )
    for name, kind in state.failing.items():
        detail = f"the last tick of {kind} `{name}` failed; its page in Dagster has the error"
        found.append(
            Condition(
                f"tick/{name}", WARNING, f"{kind.capitalize()} {name} fails", detail, "sensor-or-schedule-stopped"
            )
        )
    return found


def of_sweeps(ledger: Ledger, measured: Backlog) -> list[Condition]:
    """An inbox that was not listed to its end for too long: uploads may wait that nobody sees, and the backlog says
    nothing of them.
    """
    if not backlog.is_unswept(measured, ledger.settings):
        return []
    last = "never" if measured.swept_at is None else f"{measured.swept_at:%Y-%m-%d %H:%M:%S} UTC"
    detail = (
        f"the inbox was last listed to its end: {last}; expected at least every {ledger.settings.backlog_age_seconds} s"
    )
    if (record := sweep_record.read_record(ledger)) is not None:
        detail += f"; the newest sweep began at {record.began_at:%Y-%m-%d %H:%M:%S} UTC and is {record.outcome}"
        detail += f": {record.reason}" if record.reason else ""
    return [Condition("sweep/late", CRITICAL, "The inbox is not listed", detail, "inbox-not-listed")]


# Without these nothing is found, ingested or watched.
NEEDED = frozenset(("upload_sensor", "backlog_sensor"))
DAGSTER_SCOPES = ("run", "check", "freshness", "daemon", "sensor", "dagster", "stopped", "tick", "sweep")


def evaluate(ledger: Ledger, *, now: datetime) -> list[str]:
    """Everything that can be looked at was, and the alerts know of it; returns keys of alerts that changed."""
    measured = backlog.measure(ledger, now=now)
    found = of_backlog(ledger, measured)
    found += of_outages(ledger)
    found += of_lost_tables(ledger)
    scopes = ["backlog", "outage", "table", "orchestrator"]
    found += bootstrap.look(ledger, now=now)
    if url := ledger.settings.dagster_url:
        unanswered = ""
        try:
            found += of_dagster(
                orchestration.read(url, token=ledger.settings.dagster_token.get_secret_value(), now=now)
            )
            # Without Dagster somebody else starts ingestion, as often as they like.
            found += of_sweeps(ledger, measured)
            scopes += DAGSTER_SCOPES
        except OrchestratorUnavailable as error:
            unanswered = str(error)
        silent = down_for(ledger, "dagster", answers=not unanswered, now=now)
        # Services that are started together answer one after the other.
        if unanswered and silent >= timedelta(seconds=ledger.settings.dagster_silent_seconds):
            found.append(
                Condition(
                    "dagster/webserver", CRITICAL, "Dagster does not answer", unanswered, "orchestrator-unreachable"
                )
            )
    return alerts.observe(ledger, found, scopes=scopes, now=now)


def evaluate_and_notify(ledger: Ledger) -> alerts.Delivery:
    """One round: look at everything, then deliver what is due."""
    evaluate(ledger, now=datetime.now(UTC))
    return alerts.deliver(ledger, now=datetime.now(UTC))

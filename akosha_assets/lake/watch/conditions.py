"""One round of the watch: everything that can be observed becomes conditions, and conditions become alerts.

A scope that could not be observed is not judged, so its alerts neither fire nor resolve.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from akosha_assets.lake.errors import OrchestratorUnavailable
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.backlog import Backlog
from akosha_assets.lake.ingestion.inbox import sweep_record
from akosha_assets.lake.ingestion.ledger import known_tables, outages, quarantine
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.watch import alerts, bootstrap, dagster_conditions, delivery, orchestration
from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition
from akosha_assets.lake.watch.outage import down_for
from akosha_assets.lake.watch.tiers import tier_probe

BURST = timedelta(minutes=10)
# After a restart the first sweep has this long before an old one counts as late.
SWEEP_GRACE = timedelta(seconds=60)
SEVERITIES = {"warn": Severity.WARNING, "error": Severity.CRITICAL}
OWN_SCOPES = (Scope.BACKLOG, Scope.OUTAGE, Scope.TABLE, Scope.TIER, Scope.ORCHESTRATOR)


def of_backlog(ledger: Ledger, measured: Backlog) -> list[Condition]:
    """A backlog that is too large or too old, and many quarantined uploads in a short time."""
    verdicts = {
        ("size", "Too many uploads are waiting"): backlog.judge_size(ledger, measured),
        ("age", "Uploads wait too long"): backlog.judge_age(ledger.settings, measured),
    }
    found = [
        Condition(
            key=f"{Scope.BACKLOG}/{name}",
            severity=SEVERITIES[verdict.level],
            title=title,
            detail=verdict.reason,
            runbook=Runbook.INGESTION_BACKLOG,
        )
        for (name, title), verdict in verdicts.items()
        if verdict.level != "ok"
    ]
    recent = quarantine.find_recent(ledger, since=measured.measured_at - BURST)
    if recent.total >= ledger.settings.alert_quarantined_uploads:
        most = sorted(recent.by_reason.items(), key=lambda item: -item[1])[:5]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in most)
        found.append(
            Condition(
                key=f"{Scope.BACKLOG}/quarantine",
                severity=Severity.WARNING,
                title="Many uploads are quarantined",
                detail=(
                    f"{recent.total:,} uploads were quarantined within {BURST.seconds // 60} minutes: {reasons}; "
                    f"newest: {', '.join(recent.newest)}"
                ),
                runbook=Runbook.POISONED_UPLOADS,
            )
        )
    return found


def of_outages(ledger: Ledger) -> list[Condition]:
    """A store or disk that interrupts discovery or ingestion. Uploads wait meanwhile and lose no attempt."""
    return [
        Condition(
            key=f"{Scope.OUTAGE}/{outage.step}",
            severity=Severity.CRITICAL,
            title=f"An outage interrupts {outage.step}",
            detail=(
                f"{outage.step} failed {outage.failures} times since {outage.since:%Y-%m-%d %H:%M} UTC; last error: "
                f"{outage.message}"
            ),
            runbook=Runbook.DISK_FULL if outage.kind == "LocalStorageFailed" else Runbook.OBJECT_STORAGE_DOWN,
        )
        for outage in outages.find_all(ledger)
    ]


def of_lost_tables(ledger: Ledger) -> list[Condition]:
    """A table that was written to and is missing or older than the ledger knows it."""
    lost = known_tables.lost(ledger)
    if lost is None:
        return []
    address, problem = lost
    detail = f"{address} {problem}; ingestion has stopped and nothing is written"
    return [
        Condition(
            f"{Scope.TABLE}/{address}", Severity.CRITICAL, f"Table {address} is lost", detail, Runbook.HOT_TIER_LOSS
        )
    ]


def of_tiers(errors: Mapping[str, str]) -> list[Condition]:
    """Tiers whose table logs cannot be read, with the error of each."""
    if not errors:
        return []
    detail = "; ".join(f"{tier}: {error}" for tier, error in errors.items())
    return [
        Condition(
            f"{Scope.TIER}/unreadable", Severity.CRITICAL, "Tiers cannot be read", detail, Runbook.TIER_UNREADABLE
        )
    ]


def of_sweeps(ledger: Ledger, measured: Backlog) -> list[Condition]:
    """An inbox whose last complete listing is too old: uploads may wait that the backlog does not count.

    Where the inbox was never listed and no Dagster is expected, this lake takes in no uploads, so nothing is late.
    """
    is_expected = measured.swept_at is not None or bool(ledger.settings.dagster_url)
    if not (is_expected and backlog.is_unswept(measured, ledger.settings)):
        return []
    last = "never" if measured.swept_at is None else f"{measured.swept_at:%Y-%m-%d %H:%M:%S} UTC"
    detail = (
        f"last complete listing of the inbox: {last}; expected at least every {ledger.settings.backlog_age_seconds} s"
    )
    if (record := sweep_record.read_record(ledger)) is not None:
        detail += f"; the newest sweep began at {record.began_at:%Y-%m-%d %H:%M:%S} UTC and is {record.outcome}"
        detail += f": {record.reason}" if record.reason else ""
    return [
        Condition(f"{Scope.SWEEP}/late", Severity.CRITICAL, "The inbox is not listed", detail, Runbook.INBOX_NOT_LISTED)
    ]


def evaluate(
    ledger: Ledger, *, now: datetime, extra: Iterable[Condition] = (), extra_scopes: Iterable[Scope] = ()
) -> list[str]:
    """The alerts of the ledger match what can be observed at `now`; returns the keys of alerts that changed.

    `extra` are conditions that only the calling process can observe; they are complete for `extra_scopes`.
    """
    measured = backlog.measure(ledger, now=now)
    found = [
        *of_backlog(ledger, measured),
        *of_outages(ledger),
        *of_lost_tables(ledger),
        *of_tiers(tier_probe(ledger.settings).errors()),
        *bootstrap.evaluate(ledger, now=now),
        *extra,
    ]
    scopes = [*OWN_SCOPES, *extra_scopes]
    late = of_sweeps(ledger, measured)
    if not late or down_for(ledger, "sweep", is_up=False, now=now) >= SWEEP_GRACE:
        found += late
        scopes.append(Scope.SWEEP)
    url = ledger.settings.dagster_url
    if not url:
        # No Dagster is expected. Where another process expects one, what it sees keeps its alerts from resolving.
        return alerts.observe(ledger, found, scopes=[*scopes, *dagster_conditions.SCOPES], now=now)
    error = ""
    try:
        state = orchestration.read(url, token=ledger.settings.dagster_token.get_secret_value(), now=now)
        found += dagster_conditions.of_dagster(state)
        found += dagster_conditions.of_missing_ticks(ledger, state, now=now)
        scopes += dagster_conditions.SCOPES
    except OrchestratorUnavailable as unavailable:
        error = str(unavailable)
    silent = down_for(ledger, "dagster", is_up=not error, now=now)
    # At a start, Dagster answers later than the services that ask it.
    if error and silent >= timedelta(seconds=ledger.settings.dagster_silent_seconds):
        found.append(
            Condition(
                key=f"{Scope.DAGSTER}/webserver",
                severity=Severity.CRITICAL,
                title="Dagster does not answer",
                detail=error,
                runbook=Runbook.ORCHESTRATOR_UNREACHABLE,
            )
        )
    return alerts.observe(ledger, found, scopes=scopes, now=now)


def evaluate_and_notify(ledger: Ledger) -> delivery.Delivery:
    """One round of the watch: alerts are up to date, and messages that are due were sent."""
    evaluate(ledger, now=datetime.now(UTC))
    return delivery.deliver(ledger, now=datetime.now(UTC))

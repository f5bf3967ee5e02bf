"""Alerts: a row in the ledger for each condition that needs attention.

Any number of processes may observe at the same time. What counts as a condition is decided in `conditions.py`;
messages are sent by `delivery.py`.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.plausible import CLOCKS_DIFFER
from akosha_assets.lake.ingestion.ledger.schema import alerts, insert_for
from akosha_assets.lake.watch.alert_kinds import AlertState, Runbook, Scope, Severity

logger = logging.getLogger(__name__)

# A condition must be absent for this long before its alert resolves, so that a short gap does not resolve it.
SETTLED = timedelta(seconds=60)


@dataclass(frozen=True)
class Condition:
    """Something that needs attention now. `key` identifies it and begins with its scope."""

    key: str
    severity: Severity
    title: str
    detail: str
    runbook: Runbook


@dataclass(frozen=True)
class StoredAlert:
    """One row of the ledger's table `alerts`. Times are in UTC.

    `delivered` maps the digest of a channel to the last message that it accepted, as `STATE/SEVERITY`. `attempts`
    counts failed deliveries of the present message; `error` is the cause of the last one.
    """

    key: str
    severity: Severity
    state: AlertState
    title: str
    detail: str
    runbook: str
    fired_at: datetime
    seen_at: datetime
    resolved_at: datetime | None
    delivered: Mapping[str, str]
    pending: bool
    attempts: int
    next_attempt_at: datetime | None
    error: str | None

    @classmethod
    def of_row(cls, row: sa.Row[Any]) -> "StoredAlert":
        """The alert in `row`, which has every column of the table."""
        values = dict(row._mapping)
        return cls(**values | {"severity": Severity(row.severity), "state": AlertState(row.state)})

    @property
    def message(self) -> str:
        """What a channel must be notified of: `STATE/SEVERITY`."""
        return f"{self.state}/{self.severity}"

    @property
    def is_notified(self) -> bool:
        """Whether at least one channel accepted the present message."""
        return self.message in self.delivered.values()


def observe(ledger: Ledger, conditions: Iterable[Condition], *, scopes: Iterable[Scope], now: datetime) -> list[str]:
    """The ledger has an alert for each of `conditions`; returns the keys of alerts that fired, changed severity or
    resolved.

    `conditions` must be complete for `scopes`: an alert of these scopes without a condition resolves. Alerts of other
    scopes are left alone, because nobody looked at them.
    """
    present = {condition.key: condition for condition in conditions}
    prefixes = {f"{scope}/" for scope in scopes}
    changed = []
    with ledger.write() as connection:
        known = {row.key: row for row in connection.execute(sa.select(alerts))}
        for key, condition in present.items():
            row = known.get(key)
            values = _values(condition, now)
            if row is None or row.state == AlertState.RESOLVED:
                values |= {"state": AlertState.FIRING, "fired_at": now, "resolved_at": None}
            if row is None or row.state == AlertState.RESOLVED or row.severity != condition.severity:
                values |= NEW_MESSAGE
                changed.append(key)
            if row is None:
                insert: Any = insert_for(connection)(alerts).values(key=key, delivered={}, **values)
                connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=values))
            else:
                connection.execute(sa.update(alerts).where(alerts.c.key == key).values(**values))
        for key, row in known.items():
            is_judged = key not in present and f"{key.split('/')[0]}/" in prefixes
            if row.state == AlertState.FIRING and is_judged and _is_settled(row.seen_at, now):
                resolved = {"state": AlertState.RESOLVED, "resolved_at": now, **NEW_MESSAGE}
                connection.execute(sa.update(alerts).where(alerts.c.key == key).values(**resolved))
                changed.append(key)
    return changed


def _values(condition: Condition, now: datetime) -> dict[str, Any]:
    """The columns of an alert that describe its condition, seen at `now`."""
    return {
        "severity": condition.severity,
        "detail": condition.detail,
        "title": condition.title,
        "runbook": condition.runbook,
        "seen_at": now,
    }


def record_resolved(
    ledger: Ledger, condition: Condition, *, fired_at: datetime, now: datetime, delivered: Mapping[str, str]
) -> None:
    """The ledger has an alert that fired at `fired_at` and resolved at `now`; the message about its end is pending."""
    values = _values(condition, now) | {
        "state": AlertState.RESOLVED,
        "fired_at": fired_at,
        "resolved_at": now,
        "delivered": dict(delivered),
        **NEW_MESSAGE,
    }
    with ledger.write() as connection:
        insert: Any = insert_for(connection)(alerts).values(key=condition.key, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=values))


def list_alerts(ledger: Ledger, *, state: AlertState | None = None) -> list[StoredAlert]:
    """Alerts, the newest change first."""
    query = sa.select(alerts).order_by(sa.func.coalesce(alerts.c.resolved_at, alerts.c.fired_at).desc())
    if state is not None:
        query = query.where(alerts.c.state == state)
    with ledger.read() as connection:
        return [StoredAlert.of_row(row) for row in connection.execute(query)]


def count_alerts(ledger: Ledger) -> tuple[dict[Severity, int], int]:
    """How many alerts fire, by severity, and how many messages are pending."""
    with ledger.read() as connection:
        firing = (
            sa.select(alerts.c.severity, sa.func.count())
            .where(alerts.c.state == AlertState.FIRING)
            .group_by(alerts.c.severity)
        )
        pending = connection.scalar(sa.select(sa.func.count()).select_from(alerts).where(alerts.c.pending)) or 0
        by_severity = {Severity(severity): count for severity, count in connection.execute(firing).tuples()}
        return {severity: by_severity.get(severity, 0) for severity in Severity}, pending


# Columns of an alert whose message changed.
NEW_MESSAGE: dict[str, Any] = {"pending": True, "attempts": 0, "next_attempt_at": None, "error": None}


def _is_settled(seen_at: datetime, now: datetime) -> bool:
    """Whether a condition last seen at `seen_at` counts as over. A time in the future was written by a clock that was
    ahead.
    """
    return seen_at <= now - SETTLED or seen_at > now + CLOCKS_DIFFER

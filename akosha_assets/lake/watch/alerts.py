"""Alerts: which troubles there are, kept in the ledger, and telling people of each once, and once when it is over.

Any number of processes may observe and deliver together; the ledger decides who sends what. What counts as trouble is
in `conditions.py`.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import alerts, insert_for

logger = logging.getLogger(__name__)

# Trouble that is gone for less than this is not over: it may only have blinked.
SETTLED = timedelta(seconds=60)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
# A delivery that was begun and not ended belongs to a process that died.
IN_HAND = timedelta(seconds=60)
SENT_KEY = "alert_messages_sent"
WARNING, CRITICAL = "warning", "critical"


@dataclass(frozen=True)
class Condition:
    """Trouble that exists now. `key` names what it is about and begins with its scope; `runbook` says what to do."""

    key: str
    severity: str
    title: str
    detail: str
    runbook: str


@dataclass(frozen=True)
class Delivery:
    """What one round of delivering did."""

    sent: int
    failed: int
    held: int


def observe(ledger: Ledger, conditions: Iterable[Condition], *, scopes: Iterable[str], now: datetime) -> list[str]:
    """`conditions` is all the trouble there is in `scopes`; returns keys of alerts that fired, grew worse or are over.

    Trouble of other scopes stays as it was: it could not be looked at.
    """
    there = {one.key: one for one in conditions}
    changed = []
    with ledger.write() as connection:
        known = {row.key: row for row in connection.execute(sa.select(alerts))}
        for key, one in there.items():
            row = known.get(key)
            values: dict[str, Any] = {
                "severity": one.severity,
                "detail": one.detail,
                "title": one.title,
                "seen_at": now,
            }
            if row is None or row.state == "resolved":
                values |= {
                    "state": "firing",
                    "fired_at": now,
                    "resolved_at": None,
                    "runbook": one.runbook,
                    **_to_send(),
                }
            elif row.severity != one.severity:
                values |= _to_send()
            if "pending" in values:
                changed.append(key)
            insert: Any = insert_for(connection)(alerts).values(
                key=key, **({"delivered": {}} | values if row is None else _whole(row) | values)
            )
            connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=values))
        for key, row in known.items():
            if (
                row.state == "firing"
                and key not in there
                and key.split("/")[0] in set(scopes)
                and row.seen_at <= now - SETTLED
            ):
                over = {"state": "resolved", "resolved_at": now, **_to_send()}
                connection.execute(sa.update(alerts).where(alerts.c.key == key).values(**over))
                changed.append(key)
    return changed


def deliver(ledger: Ledger, *, now: datetime) -> Delivery:
    """Messages that are due were sent to every channel that had not got them; what failed is tried again later."""
    channels = {_digest(url): url for url in ledger.settings.alert_urls.get_secret_value().split()}
    sent = failed = held = 0
    while (row := _take(ledger, now, channels)) is not None:
        if not _within_rate(ledger, now):
            held += 1
            _put_back(
                ledger,
                row,
                now,
                attempts=row.attempts,
                error="held back: AKOSHA_ALERTS_PER_HOUR messages were sent in the last hour",
            )
            continue
        message = f"{row.state}/{row.severity}"
        delivered, refused = dict(row.delivered), ""
        for digest, url in channels.items():
            if delivered.get(digest) != message:
                problem = _send(url, row, ledger.settings.runbook_url)
                if problem:
                    refused = problem
                else:
                    delivered[digest] = message
        if refused:
            failed += 1
            logger.warning(
                "an alert could not be delivered",
                extra={"alert": row.key, "attempt": row.attempts + 1, "cause": refused},
            )
            _put_back(ledger, row, now, attempts=row.attempts + 1, error=refused, delivered=delivered)
        else:
            sent += 1
            _settle(ledger, row, delivered)
    return Delivery(sent, failed, held)


def listed(ledger: Ledger, *, state: str | None = None) -> list[Row[Any]]:
    """Alerts, the newest change first."""
    query = sa.select(alerts).order_by(sa.func.coalesce(alerts.c.resolved_at, alerts.c.fired_at).desc())
    if state is not None:
        query = query.where(alerts.c.state == state)
    with ledger.read() as connection:
        return list(connection.execute(query).all())


def counts(ledger: Ledger) -> tuple[dict[str, int], int]:
    """Firing alerts by severity, and how many messages wait for delivery."""
    with ledger.read() as connection:
        firing = (
            sa.select(alerts.c.severity, sa.func.count()).where(alerts.c.state == "firing").group_by(alerts.c.severity)
        )
        waiting = connection.scalar(sa.select(sa.func.count()).select_from(alerts).where(alerts.c.pending)) or 0
        return {WARNING: 0, CRITICAL: 0, **dict(connection.execute(firing).tuples().all())}, waiting


def _to_send() -> dict[str, Any]:
    return {"pending": True, "attempts": 0, "next_attempt_at": None, "error": None}


def _whole(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "key"}


def _take(ledger: Ledger, now: datetime, channels: dict[str, str]) -> Row[Any] | None:
    """The next message that is due, which nobody else takes for a while."""
    due = sa.and_(alerts.c.pending, sa.or_(alerts.c.next_attempt_at.is_(None), alerts.c.next_attempt_at <= now))
    with ledger.write() as connection:
        if not channels:
            connection.execute(sa.update(alerts).where(alerts.c.pending).values(pending=False))
            return None
        row = connection.execute(
            sa.select(alerts).where(due).order_by(alerts.c.severity, alerts.c.fired_at).limit(1)
        ).first()
        if row is not None:
            connection.execute(sa.update(alerts).where(alerts.c.key == row.key).values(next_attempt_at=now + IN_HAND))
        return row


def _settle(ledger: Ledger, row: Row[Any], delivered: dict[str, str]) -> None:
    with ledger.write() as connection:
        ours = sa.and_(alerts.c.key == row.key, alerts.c.state == row.state, alerts.c.severity == row.severity)
        connection.execute(sa.update(alerts).where(alerts.c.key == row.key).values(delivered=delivered))
        # Trouble that changed meanwhile has another message, which is still to be sent.
        connection.execute(sa.update(alerts).where(ours).values(pending=False, next_attempt_at=None, error=None))


def _put_back(
    ledger: Ledger, row: Row[Any], now: datetime, *, attempts: int, error: str, delivered: dict[str, str] | None = None
) -> None:
    pause = min(FIRST_PAUSE * 2 ** min(attempts, 10), LONGEST_PAUSE)
    values = {
        "attempts": attempts,
        "next_attempt_at": now + pause,
        "error": error,
        "delivered": delivered or row.delivered,
    }
    with ledger.write() as connection:
        connection.execute(sa.update(alerts).where(alerts.c.key == row.key).values(**values))


def _within_rate(ledger: Ledger, now: datetime) -> bool:
    """Whether one more message may be sent; it is counted."""
    times = [
        at for at in json.loads(ledger.remembered(SENT_KEY) or "[]") if at > (now - timedelta(hours=1)).timestamp()
    ]
    if len(times) >= ledger.settings.alerts_per_hour:
        return False
    ledger.remember(SENT_KEY, json.dumps([*times, now.timestamp()]))
    return True


def _send(url: str, row: Row[Any], runbook_url: str) -> str:
    """What went wrong, empty when the message was accepted. The address itself is a secret and is never part of it."""
    import apprise

    channel = apprise.Apprise()
    kind = url.split("://")[0]
    if not channel.add(url):
        return f"{kind}: the address is not one Apprise understands"
    is_over = row.state == "resolved"
    title = f"{'Resolved' if is_over else row.severity.capitalize()}: {row.title}"
    body = f"{row.detail}\n\nSince {row.fired_at:%Y-%m-%d %H:%M:%S} UTC"
    body += (
        f", over at {row.resolved_at:%H:%M:%S} UTC."
        if is_over
        else f".\nWhat to do: {runbook_url.rstrip('/')}/{row.runbook}.md"
    )
    look = (
        apprise.NotifyType.SUCCESS
        if is_over
        else apprise.NotifyType.FAILURE
        if row.severity == CRITICAL
        else apprise.NotifyType.WARNING
    )
    return (
        ""
        if channel.notify(body=body, title=title, notify_type=look)
        else f"{kind}: the channel did not accept the message"
    )


def _digest(url: str) -> str:
    return hashlib.blake2b(url.encode(), digest_size=6).hexdigest()

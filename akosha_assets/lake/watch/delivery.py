"""Delivery of alert messages to the channels in AKOSHA_ALERT_URLS.

Any number of processes may deliver at the same time: the ledger decides which of them sends a message.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.plausible import CLOCKS_DIFFER
from akosha_assets.lake.ingestion.ledger.schema import alerts
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch.alert_kinds import AlertState, Severity
from akosha_assets.lake.watch.alerts import StoredAlert

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
# A delivery that began this long ago and did not end belongs to a process that died.
IN_PROGRESS = timedelta(seconds=60)
RATE_WINDOW = timedelta(hours=1)
SENT_KEY = "alert_messages_sent"


@dataclass(frozen=True)
class Delivery:
    """What one round of delivery did: messages sent, failed, and postponed by the rate limit."""

    sent: int
    failed: int
    postponed: int


def deliver(ledger: Ledger, *, now: datetime) -> Delivery:
    """Every message that is due was sent to each channel that had not accepted it; failed ones are due again later."""
    channels = channels_by_digest(ledger.settings)
    sent = failed = postponed = 0
    while (alert := _claim_next(ledger, now, has_channels=bool(channels))) is not None:
        if not _count_within_rate(ledger, now):
            postponed += 1
            error = "postponed: AKOSHA_ALERTS_PER_HOUR messages were sent within an hour"
            _retry_later(ledger, alert, now, attempts=alert.attempts, error=error)
            continue
        delivered, error = send_to_all(channels, alert, ledger.settings.runbook_url)
        if error:
            failed += 1
            attempt = alert.attempts + 1
            logger.warning(
                "an alert could not be delivered", extra={"alert": alert.key, "attempt": attempt, "cause": error}
            )
            _retry_later(ledger, alert, now, attempts=attempt, error=error, delivered=delivered)
        else:
            sent += 1
            _finish(ledger, alert, delivered)
    return Delivery(sent, failed, postponed)


def channels_by_digest(settings: LakeSettings) -> dict[str, str]:
    """Apprise URLs by their digest. The URL is a secret; the digest identifies it in the ledger."""
    urls = settings.alert_urls.get_secret_value().split()
    return {hashlib.blake2b(url.encode(), digest_size=6).hexdigest(): url for url in urls}


def send_to_all(channels: dict[str, str], alert: StoredAlert, runbook_url: str) -> tuple[dict[str, str], str]:
    """The message was sent to each of `channels` that had not accepted it; returns the new `delivered` and the last
    error, empty when every channel accepted it.
    """
    delivered, error = dict(alert.delivered), ""
    for digest, url in channels.items():
        if delivered.get(digest) != alert.message:
            problem = _send(url, alert, runbook_url)
            if problem:
                error = problem
            else:
                delivered[digest] = alert.message
    return delivered, error


def pause_after(attempts: int) -> timedelta:
    """How long to wait before another attempt."""
    return min(FIRST_PAUSE * 2.0 ** min(attempts, 10), LONGEST_PAUSE)


def _claim_next(ledger: Ledger, now: datetime, *, has_channels: bool) -> StoredAlert | None:
    """The next message that is due; no other process claims it while this one sends it."""
    next_attempt = alerts.c.next_attempt_at
    # A time beyond the longest pause was written by a clock that was ahead.
    latest = now + LONGEST_PAUSE + CLOCKS_DIFFER
    is_due = sa.and_(alerts.c.pending, sa.or_(next_attempt.is_(None), next_attempt <= now, next_attempt > latest))
    with ledger.write() as connection:
        if not has_channels:
            connection.execute(sa.update(alerts).where(alerts.c.pending).values(pending=False))
            return None
        query = sa.select(alerts).where(is_due).order_by(alerts.c.severity, alerts.c.fired_at).limit(1)
        row = connection.execute(query).first()
        if row is None:
            return None
        claimed = sa.update(alerts).where(alerts.c.key == row.key).values(next_attempt_at=now + IN_PROGRESS)
        connection.execute(claimed)
        return StoredAlert.of_row(row)


def _finish(ledger: Ledger, alert: StoredAlert, delivered: dict[str, str]) -> None:
    with ledger.write() as connection:
        same_message = sa.and_(
            alerts.c.key == alert.key, alerts.c.state == alert.state, alerts.c.severity == alert.severity
        )
        connection.execute(sa.update(alerts).where(alerts.c.key == alert.key).values(delivered=delivered))
        # An alert that changed meanwhile has another message, which stays pending.
        sent = {"pending": False, "next_attempt_at": None, "error": None}
        connection.execute(sa.update(alerts).where(same_message).values(**sent))


def _retry_later(
    ledger: Ledger,
    alert: StoredAlert,
    now: datetime,
    *,
    attempts: int,
    error: str,
    delivered: dict[str, str] | None = None,
) -> None:
    values = {
        "attempts": attempts,
        "next_attempt_at": now + pause_after(attempts),
        "error": error,
        "delivered": dict(alert.delivered) if delivered is None else delivered,
    }
    with ledger.write() as connection:
        connection.execute(sa.update(alerts).where(alerts.c.key == alert.key).values(**values))


def _count_within_rate(ledger: Ledger, now: datetime) -> bool:
    """Whether the rate limit allows one more message; if so, the message is counted."""
    is_allowed = False

    def count(text: str | None) -> str:
        nonlocal is_allowed
        earliest, latest = (now - RATE_WINDOW).timestamp(), (now + CLOCKS_DIFFER).timestamp()
        # Times in the future were written by a clock that was ahead.
        recent = [at for at in json.loads(text or "[]") if earliest < at <= latest]
        is_allowed = len(recent) < ledger.settings.alerts_per_hour
        return json.dumps([*recent, now.timestamp()] if is_allowed else recent)

    ledger.update(SENT_KEY, count)
    return is_allowed


def _send(url: str, alert: StoredAlert, runbook_url: str) -> str:
    """The error, empty when the channel accepted the message. The URL is a secret and is never part of it."""
    import apprise

    channel = apprise.Apprise()
    scheme = url.split("://")[0]
    if not channel.add(url):
        return f"{scheme}: Apprise does not know this address"
    since = f"Since {alert.fired_at:%Y-%m-%d %H:%M:%S} UTC"
    if alert.state == AlertState.RESOLVED:
        notify_type = apprise.NotifyType.SUCCESS
        title = f"Resolved: {alert.title}"
        body = f"{alert.detail}\n\n{since}, over at {alert.resolved_at:%H:%M:%S} UTC."
    else:
        is_critical = alert.severity == Severity.CRITICAL
        notify_type = apprise.NotifyType.FAILURE if is_critical else apprise.NotifyType.WARNING
        title = f"{alert.severity.capitalize()}: {alert.title}"
        body = f"{alert.detail}\n\n{since}.\nWhat to do: {runbook_url.rstrip('/')}/{alert.runbook}.md"
    accepted = channel.notify(body=body, title=title, notify_type=notify_type)
    return "" if accepted else f"{scheme}: the channel did not accept the message"

"""The backlog: how many uploads wait, for how long, and how fast they are ingested.

Dagster, Prometheus, REST, the CLI and the alerts all show these numbers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger import plausible
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches, uploads
from akosha_assets.lake.ingestion.ledger.states import BACKLOG, LIVE, UploadState
from akosha_assets.lake.settings import LakeSettings

Level = Literal["ok", "warn", "error"]
# A time of an upload, and which uploads it counts for.
Event = tuple[sa.ColumnElement[Any], sa.ColumnElement[bool]]

_IS_FIRST_TIME = uploads.c.requeued_at.is_(None)
# Written so that no index on the state applies: nearly every row has this state, and few were ingested recently.
_IS_INGESTED = sa.func.coalesce(uploads.c.state, "") == UploadState.INGESTED
# Uploads that were quarantined on discovery never waited.
_HAS_WAITED = sa.and_(
    uploads.c.state != UploadState.ARRIVING,
    sa.or_(uploads.c.state != UploadState.QUARANTINED, uploads.c.claimed_at.is_not(None)),
)
_ARRIVALS: tuple[Event, ...] = (
    (uploads.c.seen_at, sa.and_(_IS_FIRST_TIME, _HAS_WAITED)),
    (uploads.c.requeued_at, sa.and_(uploads.c.requeued_at.is_not(None), uploads.c.state != UploadState.ARRIVING)),
)
# `ingested_at` is the time of the first ingestion. For later ones, and for quarantined uploads, the claim is closest.
_INGESTED: tuple[Event, ...] = (
    (uploads.c.ingested_at, sa.and_(_IS_FIRST_TIME, _IS_INGESTED)),
    (uploads.c.claimed_at, sa.and_(uploads.c.requeued_at.is_not(None), _IS_INGESTED)),
)
_QUARANTINED: Event = (uploads.c.claimed_at, uploads.c.state == UploadState.QUARANTINED)

RATE_WINDOW = timedelta(minutes=5)
# Points of a time window at which a limit is checked.
WINDOW_POINTS = 30


@dataclass(frozen=True)
class BacklogPoint:
    """Uploads that waited at `at`, and those that arrived or left (ingested, quarantined) since the last point."""

    at: datetime
    waiting: int
    arrived: int
    drained: int


@dataclass(frozen=True)
class Backlog:
    """The backlog at `measured_at`. `waiting`: complete and not yet ingested, including claimed uploads.

    Rates are uploads per second over the last five minutes. `catch_up_seconds` is None if the backlog does not shrink.
    """

    measured_at: datetime
    waiting: int
    waiting_bytes: int
    oldest_waiting_at: datetime | None
    claimed: int
    arriving: int
    incomplete: int
    ingested: int
    quarantined: int
    quarantined_by_reason: dict[str, int]
    largest_system_share: float
    arrivals_per_second: float
    drained_per_second: float
    catch_up_seconds: float | None
    live_batches: int
    expired_leases: int
    # When the last sweep that reached the end of the inbox began; None before the first.
    swept_at: datetime | None = None

    @property
    def oldest_waiting_seconds(self) -> float:
        """Age of the oldest waiting upload; 0 when none waits."""
        return (self.measured_at - self.oldest_waiting_at).total_seconds() if self.oldest_waiting_at else 0.0


@dataclass(frozen=True)
class Verdict:
    """The backlog compared with a limit."""

    level: Level
    reason: str


def measure(ledger: Ledger, *, now: datetime) -> Backlog:
    """Measures the backlog in the ledger at `now`."""
    count = sa.func.count()
    settings = ledger.settings
    waiting = uploads.c.state.in_(BACKLOG)
    live = batches.c.state.in_(LIVE)
    since = now - RATE_WINDOW
    with ledger.read() as connection:

        def number(*conditions: Any) -> int:
            return connection.scalar(sa.select(count).where(*conditions)) or 0

        by_state = sa.select(uploads.c.state, count).group_by(uploads.c.state)
        states: dict[str, int] = dict(connection.execute(by_state).tuples().all())
        by_reason = (
            sa.select(uploads.c.reason, count)
            .where(uploads.c.state == UploadState.QUARANTINED)
            .group_by(uploads.c.reason)
        )
        reasons: dict[str, int] = dict(connection.execute(by_reason).tuples().all())
        waiting_bytes = connection.scalar(sa.select(sa.func.sum(uploads.c.bytes)).where(waiting)) or 0
        oldest = connection.scalar(
            sa.select(sa.func.min(plausible.WAITING_SINCE)).where(waiting, plausible.is_age_known(now))
        )
        by_system = sa.select(count).where(waiting).group_by(uploads.c.system_id)
        largest = connection.scalar(by_system.order_by(count.desc()).limit(1)) or 0
        grace = now - timedelta(seconds=settings.incomplete_grace_seconds)
        incomplete = number(uploads.c.state == UploadState.ARRIVING, uploads.c.seen_at < grace)
        arrived = sum(number(which, at > since) for at, which in _ARRIVALS)
        drained = sum(number(which, at > since) for at, which in _INGESTED)
        live_batches = number(live)
        expired = number(live, plausible.has_lease_ended(now, settings.lease_seconds))
    total = states.get(UploadState.WAITING, 0) + states.get(UploadState.CLAIMED, 0)
    seconds = RATE_WINDOW.total_seconds()
    shrinking = (drained - arrived) / seconds
    return Backlog(
        measured_at=now,
        waiting=total,
        waiting_bytes=int(waiting_bytes),
        oldest_waiting_at=oldest,
        claimed=states.get(UploadState.CLAIMED, 0),
        arriving=states.get(UploadState.ARRIVING, 0) - incomplete,
        incomplete=incomplete,
        ingested=states.get(UploadState.INGESTED, 0),
        quarantined=states.get(UploadState.QUARANTINED, 0),
        quarantined_by_reason=reasons,
        largest_system_share=largest / total if total else 0.0,
        arrivals_per_second=arrived / seconds,
        drained_per_second=drained / seconds,
        catch_up_seconds=0.0 if not total else total / shrinking if shrinking > 0 else None,
        live_batches=live_batches,
        expired_leases=expired,
        swept_at=datetime.fromisoformat(swept) if (swept := ledger.remembered(SWEEP_ENDED)) else None,
    )


def history(ledger: Ledger, *, now: datetime, span: timedelta, step: timedelta) -> list[BacklogPoint]:
    """Returns the backlog at every `step` of the last `span`, oldest first, the last one at `now`.

    Computed from the times in the ledger, so a restart does not change it. A redriven or replayed upload counts as
    arrived at the redrive or replay, not when it was first seen.
    """
    steps = int(span / step)
    with ledger.read() as connection:

        def by_step(events: Iterable[Event]) -> Counter[int]:
            counts: Counter[int] = Counter()
            for at, which in events:
                counts.update(_by_step(connection, at, which, now, step, steps))
            return counts

        waiting = sa.select(sa.func.count()).where(uploads.c.state.in_(BACKLOG))
        remaining = connection.scalar(waiting) or 0
        arrived, drained = by_step(_ARRIVALS), by_step([*_INGESTED, _QUARANTINED])
    points = []
    for number in range(steps):
        points.append(BacklogPoint(now - number * step, remaining, arrived[number], drained[number]))
        remaining = max(0, remaining - arrived[number] + drained[number])
    return points[::-1]


def is_caught_up(measured: Backlog, settings: LakeSettings) -> bool:
    """Whether no upload waits for longer than the limit, and the inbox was listed completely not long ago."""
    return measured.oldest_waiting_seconds <= settings.backlog_age_seconds and not is_unswept(measured, settings)


def is_unswept(measured: Backlog, settings: LakeSettings) -> bool:
    """Whether the last complete listing of the inbox is so old that unknown uploads may wait there."""
    limit = max(settings.backlog_age_seconds, 2 * settings.sweep_seconds if settings.ingestion_queue else 0)
    # A time in the future was recorded by a wrong clock.
    return measured.swept_at is None or abs((measured.measured_at - measured.swept_at).total_seconds()) > limit


def judge_size(ledger: Ledger, measured: Backlog) -> Verdict:
    """Whether too many uploads have waited for too long, by the limits of the settings.

    The history comes from the ledger, so a backlog that grew while nothing ran is detected at once.
    """
    settings = ledger.settings
    limits: tuple[tuple[Level, int, int], ...] = (
        ("error", settings.backlog_error_uploads, settings.backlog_error_for_seconds),
        ("warn", settings.backlog_warn_uploads, settings.backlog_warn_for_seconds),
    )
    for level, limit, seconds in limits:
        if measured.waiting > limit and _stayed_above(ledger, limit, seconds, measured.measured_at):
            return Verdict(level, f"{measured.waiting:,} uploads wait; more than {limit:,} for at least {seconds} s")
    return Verdict("ok", f"{measured.waiting:,} uploads wait")


def judge_age(settings: LakeSettings, measured: Backlog) -> Verdict:
    """Whether the oldest upload has waited for too long."""
    age = measured.oldest_waiting_seconds
    limits: tuple[tuple[Level, int], ...] = (
        ("error", settings.backlog_fail_seconds),
        ("warn", settings.backlog_warn_seconds),
    )
    for level, limit in limits:
        if age > limit:
            return Verdict(level, f"the oldest upload waits for {age:,.0f} s; more than {limit:,} s")
    return Verdict("ok", f"the oldest upload waits for {age:,.0f} s" if measured.waiting else "no upload waits")


def _stayed_above(ledger: Ledger, limit: int, seconds: int, now: datetime) -> bool:
    if not seconds:
        return True
    step = timedelta(seconds=seconds) / WINDOW_POINTS
    # One point more than the window has steps: the start of the window counts as well.
    return all(point.waiting > limit for point in history(ledger, now=now, span=step * (WINDOW_POINTS + 1), step=step))


def _by_step(
    connection: sa.Connection, column: Any, which: Any, now: datetime, step: timedelta, steps: int
) -> dict[int, int]:
    """Counts the rows of `which` by the age of `column` at `now`, in complete steps."""
    age = now.timestamp() - sa.extract("epoch", column)
    age_in_steps = age / step.total_seconds()
    # SQLite truncates, also times to seconds: a step is exact to a second. PostgreSQL would round.
    number = sa.cast(
        sa.func.floor(age_in_steps) if connection.dialect.name == "postgresql" else age_in_steps, sa.Integer
    ).label("number")
    recent = sa.select(number).where(which, column > now - steps * step, column <= now).subquery()
    counted = sa.select(recent.c.number, sa.func.count()).group_by(recent.c.number)
    return dict(connection.execute(counted).tuples().all())

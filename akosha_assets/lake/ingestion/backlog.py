"""How much waits to be taken in, for how long, and how fast it goes: one reading of the ledger for everyone who asks.

Dagster, Prometheus, REST, the CLI and the alerts show these numbers and no others.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger import Ledger
from akosha_assets.lake.ingestion.ledger_schema import batches, uploads

RATE_WINDOW = timedelta(minutes=5)


@dataclass(frozen=True)
class Backlog:
    """The state of ingestion at `measured_at`. Waiting means seen, complete and not yet taken in, claimed ones included.

    Rates are uploads a second over the last five minutes. `catch_up_seconds` is None while it does not get shorter.
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

    @property
    def oldest_waiting_seconds(self) -> float:
        """Age of the oldest waiting upload; 0 when none waits."""
        return (self.measured_at - self.oldest_waiting_at).total_seconds() if self.oldest_waiting_at else 0.0


def measure(ledger: Ledger, *, now: datetime) -> Backlog:
    """The backlog as the ledger has it."""
    count = sa.func.count()
    grace = now - timedelta(seconds=ledger.settings.incomplete_grace_seconds)
    waiting = uploads.c.state.in_(("waiting", "claimed"))
    with ledger.read() as connection:
        states: dict[str, int] = dict(connection.execute(sa.select(uploads.c.state, count).group_by(uploads.c.state)).tuples().all())
        due = connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(uploads.c.bytes), 0), sa.func.min(uploads.c.seen_at)).where(waiting)
        ).one()
        largest = connection.scalar(sa.select(count).where(waiting).group_by(uploads.c.system_id).order_by(count.desc()).limit(1))
        incomplete = connection.scalar(sa.select(count).where(uploads.c.state == "arriving", uploads.c.seen_at < grace)) or 0
        reasons = connection.execute(sa.select(uploads.c.reason, count).where(uploads.c.state == "quarantined").group_by(uploads.c.reason))
        by_reason: dict[str, int] = dict(reasons.tuples().all())
        arrived = connection.scalar(sa.select(count).where(uploads.c.seen_at > now - RATE_WINDOW)) or 0
        drained = connection.scalar(sa.select(count).where(uploads.c.ingested_at > now - RATE_WINDOW)) or 0
        live = batches.c.state.in_(("claimed", "committing"))
        held = connection.scalar(sa.select(count).select_from(batches).where(live)) or 0
        expired = connection.scalar(sa.select(count).select_from(batches).where(live, batches.c.lease_until < now)) or 0
    total = states.get("waiting", 0) + states.get("claimed", 0)
    seconds = RATE_WINDOW.total_seconds()
    shrinking = (drained - arrived) / seconds
    return Backlog(
        measured_at=now,
        waiting=total,
        waiting_bytes=int(due[0]),
        oldest_waiting_at=due[1],
        claimed=states.get("claimed", 0),
        arriving=states.get("arriving", 0) - incomplete,
        incomplete=incomplete,
        ingested=states.get("ingested", 0),
        quarantined=states.get("quarantined", 0),
        quarantined_by_reason=by_reason,
        largest_system_share=(largest or 0) / total if total else 0.0,
        arrivals_per_second=arrived / seconds,
        drained_per_second=drained / seconds,
        catch_up_seconds=0.0 if not total else total / shrinking if shrinking > 0 else None,
        live_batches=held,
        expired_leases=expired,
    )

"""Lets ingested uploads wait again, and counts an arrival day. `arrivals.py` ingests them.

A replay compares uploads with the tables, not with the known rows of the ledger: lost rows come back, existing rows do
not change, and a second replay changes nothing.
"""

from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import systems, uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState


@dataclass(frozen=True)
class Replayed:
    """Counts of uploads of a day: those that wait again, and those whose objects are no longer in the inbox."""

    waiting: int
    removed: int


def requeue_day(ledger: Ledger, arrival_day: date, *, now: datetime) -> Replayed:
    """Lets every ingested upload of `arrival_day` that is still in the inbox wait again since `now`.

    Known rows of the systems will be read from the tables.
    """
    of_day = sa.and_(uploads.c.arrival_day == arrival_day, uploads.c.state == UploadState.INGESTED)
    in_inbox = sa.and_(of_day, uploads.c.removed_at.is_(None))
    with ledger.write() as connection:
        removed = connection.scalar(
            sa.select(sa.func.count()).select_from(uploads).where(of_day, uploads.c.removed_at.is_not(None))
        )
        names = sa.select(uploads.c.system_id).where(in_inbox)
        connection.execute(sa.update(systems).where(systems.c.system_id.in_(names)).values(is_known=False))
        waiting = connection.execute(
            sa.update(uploads)
            .where(in_inbox)
            .values(state=UploadState.WAITING, requeued_at=now, attempts=0, not_before=None)
        ).rowcount
    return Replayed(waiting, removed or 0)


def forget_rows(ledger: Ledger) -> None:
    """Makes the next upload of every system be compared with the tables, not with the known rows of the ledger."""
    with ledger.write() as connection:
        connection.execute(sa.update(systems).values(is_known=False))


@dataclass(frozen=True)
class DayTotals:
    """One arrival day in the ledger: uploads by state, their bytes, and rows by kind of count (`rows_read`, …)."""

    uploads: dict[str, int]
    upload_bytes: int
    rows: dict[str, int]


def day_totals(ledger: Ledger, arrival_day: date) -> DayTotals:
    """Returns the totals of an arrival day. Row counts are those of the first ingestion of each upload."""
    kinds = ("rows_read", "new_rows", "changed_rows", "unchanged_rows", "absent_rows")
    sums = [sa.func.coalesce(sa.func.sum(uploads.c[name]), 0).label(name) for name in ("bytes", *kinds)]
    query = sa.select(uploads.c.state, sa.func.count().label("count"), *sums).where(
        uploads.c.arrival_day == arrival_day
    )
    with ledger.read() as connection:
        rows = connection.execute(query.group_by(uploads.c.state)).mappings().all()
    return DayTotals(
        {row["state"]: row["count"] for row in rows},
        sum(int(row["bytes"]) for row in rows),
        {name: sum(int(row[name]) for row in rows) for name in kinds},
    )

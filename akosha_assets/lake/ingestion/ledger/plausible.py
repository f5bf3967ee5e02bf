"""Detects times in the ledger and the tables that a correct clock cannot have written.

A clock may jump ahead and back (NTP, a resumed machine). The times that it wrote are in the future afterwards: such a
lease or pause counts as over, and such a snapshot as older than every later one.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.schema import batches, uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.tables import CLOCKS_AHEAD

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The clocks of machines that share a ledger differ by less than this.
CLOCKS_DIFFER = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(minutes=5)


# Any clock that shows an earlier time is wrong.
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
WAITING_SINCE = sa.func.coalesce(uploads.c.requeued_at, uploads.c.seen_at)


def is_age_known(now: datetime) -> sa.ColumnElement[bool]:
    """Whether a correct clock can have written the time since which an upload waits."""
    return WAITING_SINCE.between(EARLIEST, now + CLOCKS_DIFFER)


def is_within(at: datetime, now: datetime, span: timedelta) -> bool:
    """Whether `at` is less than `span` before `now`, and not further ahead than clocks differ."""
    return -CLOCKS_DIFFER < now - at < span


def latest_snapshot(now: datetime) -> datetime:
    """Returns the latest possible time of a snapshot that is known at `now`."""
    return now + CLOCKS_AHEAD


def has_lease_ended(now: datetime, lease_seconds: int) -> sa.ColumnElement[bool]:
    """Whether the lease of a batch has ended, or ends later than a lease that is renewed at `now` would."""
    latest = now + 2 * timedelta(seconds=lease_seconds) + CLOCKS_DIFFER
    return sa.or_(batches.c.lease_until < now, batches.c.lease_until > latest)


def is_due(now: datetime) -> sa.ColumnElement[bool]:
    """Whether an upload can be claimed: it waits, or its files were still arriving at the last attempt, and its pause,
    if any, is over or longer than the maximum.
    """
    is_over = sa.or_(uploads.c.not_before <= now, uploads.c.not_before > now + LONGEST_PAUSE + CLOCKS_DIFFER)
    return sa.or_(
        sa.and_(uploads.c.state == UploadState.WAITING, sa.or_(uploads.c.not_before.is_(None), is_over)),
        sa.and_(uploads.c.state == UploadState.ARRIVING, is_over),
    )

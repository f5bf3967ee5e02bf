"""When a snapshot was taken, by the clock of the client that named it and of the machine that found it."""

import re
from datetime import UTC, datetime, timedelta

UPLOAD_TIME = re.compile(r"(\d{8}_\d{6})(?:_|$)")
# A client's clock may run a little ahead; further ahead it would shut out its own later snapshots.
CLOCK_SKEW = timedelta(minutes=5)


def snapshot_time(upload_id: str, *, fallback: datetime, seen_at: datetime) -> datetime:
    """The UTC time that an upload id begins with, else `fallback`; at most `CLOCK_SKEW` after `seen_at`."""
    taken = fallback
    if match := UPLOAD_TIME.match(upload_id):
        try:
            taken = datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            taken = fallback
    return min(taken, seen_at + CLOCK_SKEW)


def corrected_snapshot_time(upload_id: str, *, snapshot_at: datetime, seen_at: datetime, now: datetime) -> datetime:
    """`snapshot_at`, set when the upload was seen, as a clock that is at `now` would have set it.

    The clock may have been wrong. Behind, it made all of the upload older than what is known; ahead, it lets the upload
    make every later snapshot older.
    """
    # Where the clock that saw it set the limit, the time without it is in the id or not known any more.
    fallback = now if snapshot_at >= seen_at + CLOCK_SKEW else snapshot_at
    latest = now + CLOCK_SKEW
    corrected = snapshot_time(upload_id, fallback=fallback, seen_at=now)
    return corrected if corrected < latest else now

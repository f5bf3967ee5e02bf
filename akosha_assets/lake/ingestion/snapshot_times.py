"""The time of a snapshot by the client's clock, limited by the clock of the machine that found the upload."""

import re
from datetime import UTC, datetime, timedelta

UPLOAD_TIME = re.compile(r"(\d{8}_\d{6})(?:_|$)")
# A client's clock may run a little ahead. Further ahead, the client's later snapshots would count as older.
CLOCK_SKEW = timedelta(minutes=5)


def snapshot_time(upload_id: str, *, fallback: datetime, seen_at: datetime) -> datetime:
    """Returns the UTC time at the start of an upload id, else `fallback`; at most `CLOCK_SKEW` after `seen_at`."""
    snapshot_at = fallback
    if match := UPLOAD_TIME.match(upload_id):
        try:
            snapshot_at = datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            snapshot_at = fallback
    return min(snapshot_at, seen_at + CLOCK_SKEW)


def corrected_snapshot_time(upload_id: str, *, snapshot_at: datetime, seen_at: datetime, now: datetime) -> datetime:
    """Returns `snapshot_at`, which was set when the upload was seen, as a clock at `now` would set it.

    The clock may have been wrong then. If it was behind, the upload counts as older than the known rows; if it was
    ahead, every later snapshot counts as older than the upload.
    """
    # Where the wrong clock limited the time, the original time is in the id or lost.
    fallback = now if snapshot_at >= seen_at + CLOCK_SKEW else snapshot_at
    latest = now + CLOCK_SKEW
    corrected = snapshot_time(upload_id, fallback=fallback, seen_at=now)
    return corrected if corrected < latest else now

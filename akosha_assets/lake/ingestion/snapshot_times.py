"""The time of a snapshot by the client's clock, limited by the clock of the machine that found the upload."""

import re
from datetime import UTC, datetime, timedelta

# A clock that shows an earlier time has been reset; the source did not exist then.
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
# A snapshot is uploaded within this time. One further from its arrival has the time of a wrong clock, or waited.
UPLOADED_WITHIN = timedelta(days=1)
UPLOAD_TIME = re.compile(r"(\d{8}_\d{6})(?:_|$)")
# A client's clock may run a little ahead. Further ahead, the client's later snapshots would count as older.
CLOCK_SKEW = timedelta(minutes=5)


def snapshot_time(upload_id: str, *, fallback: datetime, seen_at: datetime) -> datetime:
    """Returns the UTC time at the start of an upload id, else `fallback`; at most `CLOCK_SKEW` after `seen_at`.

    A time before 2020 is no time.
    """
    snapshot_at = fallback
    if match := UPLOAD_TIME.match(upload_id):
        try:
            snapshot_at = datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            snapshot_at = fallback
    if snapshot_at < EARLIEST:
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


def is_near_arrival(snapshot_at: datetime, arrived_at: datetime) -> bool:
    """Whether a snapshot can be of the time that its id says."""
    return abs(snapshot_at - arrived_at) <= UPLOADED_WITHIN


def arrival_time(modified_at: datetime | None, *, seen_at: datetime) -> datetime:
    """Returns when an upload arrived: when its objects were last modified, or `seen_at` if that cannot be right."""
    if modified_at is None or not EARLIEST <= modified_at <= seen_at + CLOCK_SKEW:
        return seen_at
    return modified_at

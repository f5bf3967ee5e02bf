"""The offsets of the world's time zones since 2020, from the IANA database, as arrays.

Session-Buddy writes no zone. Its offset at one time is proven by ids (`event_times.py`); a zone that fits all proofs
says its offset at every other time, for instance in the other half of the year.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np

SECOND_US = 1_000_000
# Earlier rows are not accepted (`event_times.EARLIEST_US`).
_FIRST = int(datetime(2019, 12, 1, tzinfo=UTC).timestamp())
_AHEAD = timedelta(days=800)
# No zone keeps an offset for a shorter time: Morocco changes it for the month of Ramadan.
_SAMPLE_SECONDS = 21 * 86_400

# If several zones fit, the first of these that fits is chosen: zones where many people live, at most one for each pair
# of offsets. A zone that never changes its offset precedes the others only where computers are usually set to it.
PREFERRED = (
    *("Etc/UTC", "America/Los_Angeles", "America/Denver", "America/Chicago", "America/New_York", "Europe/London"),
    *("Europe/Berlin", "Europe/Athens", "America/St_Johns", "America/Anchorage", "Australia/Sydney"),
    *("Australia/Adelaide", "Pacific/Auckland"),
)


@dataclass(frozen=True)
class ZoneTable:
    """The offset of each zone in each interval between two changes of any zone. Zones with equal rows appear once."""

    # The position of each zone name, aliases of `zone1970.tab` included.
    row_of: dict[str, int]
    # (intervals,) int64 UTC microseconds, sorted: the start of each interval.
    starts_us: np.ndarray
    # (zones, intervals) int64 microseconds ahead of UTC.
    offsets_us: np.ndarray
    # (offsets,) int64 microseconds, sorted: every offset of any zone.
    real_offsets_us: np.ndarray

    def intervals(self, utc: np.ndarray) -> np.ndarray:
        """Returns the position of the interval of each time: (rows,) int64."""
        return np.maximum(np.searchsorted(self.starts_us, utc, side="right") - 1, 0)

    def fitting(self, utc: np.ndarray, offsets: np.ndarray, tolerance_us: int) -> np.ndarray:
        """Returns the positions of zones that have each offset at its time: (fitting,) int64, the preferred ones first.

        `utc`, `offsets`: (proofs,) int64 microseconds; a time is right to `tolerance_us`.
        """
        early, late = self.intervals(utc - tolerance_us), self.intervals(utc + tolerance_us)
        early, late, offsets = np.unique(np.stack([early, late, offsets]), axis=1)
        fits = ((self.offsets_us[:, early] == offsets) | (self.offsets_us[:, late] == offsets)).all(axis=1)
        preferred = [self.row_of[name] for name in PREFERRED if fits[self.row_of[name]]]
        return np.array([*preferred, *(row for row in np.flatnonzero(fits).tolist() if row not in preferred)], np.int64)

    def is_preferred(self, row: int) -> bool:
        """Whether a name in PREFERRED has this position."""
        return any(self.row_of[name] == row for name in PREFERRED)

    def to_utc(self, row: int, local: np.ndarray, nearest_offset: np.ndarray) -> np.ndarray:
        """Returns the UTC time of each local time in the zone: (rows,) int64 microseconds.

        Of the two times of a repeated hour, the one with `nearest_offset`, (rows,) int64, is returned, else the later
        one. A time that the zone skipped counts with the offset before the change.
        """
        own = self.offsets_us[row]
        first = local - own[self.intervals(local - nearest_offset)]
        other = own[self.intervals(first)]
        second = local - other
        is_skipped = (local - first != other) & (own[self.intervals(second)] != other)
        utc: np.ndarray = np.where(is_skipped, np.maximum(first, second), second)
        return utc


@lru_cache(1)
def zone_table() -> ZoneTable:
    """Returns the table. The first call reads the IANA database, so it must come before the process is confined."""
    end = int((datetime.now(UTC) + _AHEAD).timestamp())
    listed = files("tzdata").joinpath("zoneinfo", "zone1970.tab").read_text(encoding="utf-8").splitlines()
    names = ["Etc/UTC", *(line.split("\t")[2] for line in listed if line and not line.startswith("#"))]
    changes = {name: _changes(ZoneInfo(name), end) for name in names}
    starts = np.array(sorted({at for own in changes.values() for at, _ in own}), np.int64)
    rows: dict[bytes, int] = {}
    row_of: dict[str, int] = {}
    offsets: list[np.ndarray] = []
    for name, own in changes.items():
        at = np.searchsorted(np.array([at for at, _ in own]), starts, side="right") - 1
        row = np.array([offset for _, offset in own], np.int64)[at]
        row_of[name] = rows.setdefault(row.tobytes(), len(rows))
        if row_of[name] == len(offsets):
            offsets.append(row)
    table = np.stack(offsets) * SECOND_US
    return ZoneTable(row_of, starts * SECOND_US, table, np.unique(table))


def _changes(zone: ZoneInfo, end: int) -> list[tuple[int, int]]:
    """Returns each time from which the zone had another offset, and that offset, in seconds; the first is `_FIRST`."""
    found = [(_FIRST, _offset(zone, _FIRST))]
    for sample in range(_FIRST + _SAMPLE_SECONDS, end, _SAMPLE_SECONDS):
        if (offset := _offset(zone, sample)) != found[-1][1]:
            before, after = sample - _SAMPLE_SECONDS, sample
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if _offset(zone, middle) == found[-1][1] else (before, middle)
            found.append((after, offset))
    return found


def _offset(zone: ZoneInfo, seconds: int) -> int:
    offset = datetime.fromtimestamp(seconds, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())

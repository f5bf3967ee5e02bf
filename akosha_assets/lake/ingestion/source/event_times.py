"""Resolves event times of rows in UTC, with their evidence.

Session-Buddy writes local wall time without a zone. ULIDs in the same snapshot contain UTC: the difference between a
ULID and the local time of its row is the client's offset at that time. Rows without a ULID use the proven offset that
is nearest in time, which follows daylight saving. Pure functions over numpy arrays of int64 microseconds since 1970.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MISSING = np.iinfo(np.int64).min
# The source wrote no memories earlier, and each accepted day becomes a partition.
EARLIEST_US = 1_577_836_800 * SECOND_US  # 2020-01-01

QUARTER_US = 900 * SECOND_US
PROOF_TOLERANCE_US = 120 * SECOND_US
WEST_US, EAST_US = -12 * 3600 * SECOND_US, 14 * 3600 * SECOND_US

ULID_LENGTH = 26
_CROCKFORD = np.full(256, 255, dtype=np.uint8)
for _value, _letter in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ"):
    _CROCKFORD[ord(_letter)] = _CROCKFORD[ord(_letter.lower())] = _value

# The first ten letters encode milliseconds since 1970.
_WEIGHTS = 32 ** np.arange(9, -1, -1, dtype=np.int64)

# Values of the column occurred_from, by code.
SNAPSHOT, LOCAL_ASSUMED_UTC, UTC_COLUMN, ULID_OFFSET, ULID = range(5)
OCCURRED_FROM = pa.array(["snapshot", "local_assumed_utc", "utc", "ulid_offset", "ulid"])


def ulid_times(ids: pa.Array) -> np.ndarray:
    """Returns the UTC microseconds in each id, (rows,) int64; MISSING if it is not a ULID."""
    times = np.full(len(ids), MISSING, dtype=np.int64)
    places = np.flatnonzero(
        pc.equal(pc.binary_length(ids), ULID_LENGTH).fill_null(False).to_numpy(zero_copy_only=False)
    )
    if not len(places):
        return times
    # `take` copies the texts into one contiguous buffer.
    letters = np.frombuffer(ids.take(pa.array(places)).buffers()[2], dtype=np.uint8, count=ULID_LENGTH * len(places))
    digits = _CROCKFORD[letters.reshape(-1, ULID_LENGTH)]
    proper = (digits < 32).all(axis=1) & (digits[:, 0] < 8)
    milliseconds = digits[:, :10].astype(np.int64) @ _WEIGHTS
    times[places[proper]] = milliseconds[proper] * 1000
    return times


def plausible(times: np.ndarray, snapshot_us: int) -> np.ndarray:
    """Whether each time is between the year 2020 and one day after the snapshot: (rows,) bool."""
    return (times >= EARLIEST_US) & (times <= snapshot_us + DAY_US)


@dataclass(frozen=True)
class Anchors:
    """Proven offsets of the client's clock: at local time `local_us[i]` it was `offset_us[i]` ahead of UTC."""

    # (anchors,) int64 each; `merged` sorts by `local_us`.
    local_us: np.ndarray
    offset_us: np.ndarray

    @staticmethod
    def proven(local: np.ndarray, utc: np.ndarray, snapshot_us: int) -> "Anchors":
        """Returns anchors from pairs of local time and UTC; skips pairs whose difference is no time zone's offset."""
        offsets, proof = _offsets(local, utc, snapshot_us)
        return Anchors(local[proof], offsets[proof])

    @staticmethod
    def merged(parts: "list[Anchors]") -> "Anchors":
        """Returns all anchors of `parts`, sorted by local time."""
        local = np.concatenate([np.empty(0, np.int64), *[part.local_us for part in parts]])
        offset = np.concatenate([np.empty(0, np.int64), *[part.offset_us for part in parts]])
        order = np.argsort(local, kind="stable")
        return Anchors(local[order], offset[order])

    def to_utc(self, local: np.ndarray) -> np.ndarray:
        """Returns each local time minus the nearest proven offset: (rows,) int64."""
        after = np.clip(np.searchsorted(self.local_us, local), 1, max(1, len(self.local_us) - 1))
        after = np.minimum(after, len(self.local_us) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.where(np.abs(local - self.local_us[before]) <= np.abs(self.local_us[after] - local), before, after)
        utc: np.ndarray = local - self.offset_us[nearer]
        return utc


def _offsets(local: np.ndarray, utc: np.ndarray, snapshot_us: int) -> tuple[np.ndarray, np.ndarray]:
    usable = plausible(utc, snapshot_us) & plausible(local, snapshot_us)
    difference = np.where(usable, local, 0) - np.where(usable, utc, 0)
    offsets = np.round(difference / QUARTER_US).astype(np.int64) * QUARTER_US
    proof = usable & (np.abs(difference - offsets) <= PROOF_TOLERANCE_US) & (offsets >= WEST_US) & (offsets <= EAST_US)
    return offsets, proof


@dataclass(frozen=True)
class EventTimes:
    """The resolved time of each row."""

    # (rows,) int64 UTC microseconds.
    occurred_us: np.ndarray
    # (rows,) int8, positions in OCCURRED_FROM.
    occurred_from: np.ndarray
    # (rows,) bool: the row has a time, and it is not plausible.
    out_of_range: np.ndarray


def resolve(local: np.ndarray, utc: np.ndarray, ulid: np.ndarray, anchors: Anchors, snapshot_us: int) -> EventTimes:
    """Resolves the best known time of each row.

    `local`, `utc`, `ulid`: (rows,) int64 microseconds, MISSING if there is none: the naive local time, the time with a
    zone, the time in the ULID.
    """
    known_ulid = plausible(ulid, snapshot_us)
    known_utc = plausible(utc, snapshot_us)
    _, agrees = _offsets(local, ulid, snapshot_us)
    has_local = local != MISSING

    occurred = np.full(len(local), snapshot_us, dtype=np.int64)
    code = np.full(len(local), SNAPSHOT, dtype=np.int8)

    # Far from 1970, subtracting an offset overflows int64; such times are out of range anyway.
    within = has_local & (local >= EARLIEST_US - DAY_US) & (local <= snapshot_us + 2 * DAY_US)
    safe = np.where(within, local, EARLIEST_US)
    moved = anchors.to_utc(safe) if len(anchors.local_us) else safe
    usable = within & plausible(moved, snapshot_us)
    occurred[usable] = moved[usable]
    code[usable] = ULID_OFFSET if len(anchors.local_us) else LOCAL_ASSUMED_UTC

    from_ulid = known_ulid & (agrees | ~has_local)
    occurred[from_ulid], code[from_ulid] = ulid[from_ulid], ULID
    occurred[known_utc], code[known_utc] = utc[known_utc], UTC_COLUMN
    has_time = has_local | (utc != MISSING)
    return EventTimes(occurred, code, has_time & (code == SNAPSHOT))


@dataclass(frozen=True)
class Clocks:
    """The clocks of several uploads, each with the anchors of its own rows.

    `uploads` of the methods is the position of each row's upload: (rows,) int64.
    """

    anchors: list[Anchors]
    # (uploads,) int64 UTC microseconds.
    snapshots_us: np.ndarray

    @staticmethod
    def unproven(snapshots_us: np.ndarray) -> "Clocks":
        """Returns clocks without anchors, for uploads without rows."""
        return Clocks([Anchors.merged([]) for _ in snapshots_us], snapshots_us)

    @staticmethod
    def proven(
        local: np.ndarray, utc: np.ndarray, ulid: np.ndarray, uploads: np.ndarray, snapshots_us: np.ndarray
    ) -> "Clocks":
        """Returns clocks with the anchors of rows that have a local time and a UTC time or a ULID."""
        anchors = []
        for rows, snapshot_us in _by_upload(uploads, snapshots_us):
            pairs = ((local[rows], ulid[rows]), (local[rows], utc[rows]))
            anchors.append(Anchors.merged([Anchors.proven(ours, theirs, snapshot_us) for ours, theirs in pairs]))
        return Clocks(anchors, snapshots_us)

    def resolve(self, local: np.ndarray, utc: np.ndarray, ulid: np.ndarray, uploads: np.ndarray) -> EventTimes:
        """Resolves the time of each row with the clock of its upload."""
        times = EventTimes(np.empty(len(local), np.int64), np.empty(len(local), np.int8), np.empty(len(local), bool))
        for (rows, snapshot_us), anchors in zip(_by_upload(uploads, self.snapshots_us), self.anchors, strict=True):
            own = resolve(local[rows], utc[rows], ulid[rows], anchors, snapshot_us)
            times.occurred_us[rows], times.occurred_from[rows] = own.occurred_us, own.occurred_from
            times.out_of_range[rows] = own.out_of_range
        return times


def _by_upload(uploads: np.ndarray, snapshots_us: np.ndarray) -> Iterator[tuple[np.ndarray | slice, int]]:
    """Yields the positions of the rows of each upload, and the time of its snapshot."""
    alone = len(snapshots_us) == 1
    for place, snapshot_us in enumerate(snapshots_us.tolist()):
        yield slice(None) if alone else np.flatnonzero(uploads == place), snapshot_us

"""Resolves event times of rows in UTC, with their evidence.

Session-Buddy writes local wall time without a zone. ULIDs and UUIDv7s in the same snapshot contain UTC: the difference
between an id's time and the local time of its row is the client's offset at that time. Rows without such an id use the
zone that fits all proven offsets (`zones.py`), or else the proven offset that is nearest in time. An id alone dates no
row: a migration may have made its time up. Pure functions over numpy arrays of int64 microseconds since 1970.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from akosha_assets.lake.ingestion.source.id_times import MISSING, ULID_ID, UUID7_ID, IdTimes
from akosha_assets.lake.ingestion.source.zones import zone_table

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
# The source wrote no memories earlier, and each accepted day becomes a partition.
EARLIEST_US = 1_577_836_800 * SECOND_US  # 2020-01-01

QUARTER_US = 900 * SECOND_US
PROOF_TOLERANCE_US = 120 * SECOND_US
WEST_US, EAST_US = -12 * 3600 * SECOND_US, 14 * 3600 * SECOND_US

# An id kind in which fewer rows than half agree with the local time is believed only with this many.
MANY_PROOFS = 8

# Values of the column occurred_from, by code.
SNAPSHOT, LOCAL_ASSUMED_UTC, UTC_COLUMN, ULID_OFFSET, ULID, UUID7, ZONE_INFERRED = range(7)
OCCURRED_FROM = pa.array(["snapshot", "local_assumed_utc", "utc", "ulid_offset", "ulid", "uuid7", "zone_inferred"])


def plausible(times: np.ndarray, latest_us: int) -> np.ndarray:
    """Whether each time is between the year 2020 and one day after `latest_us`: (rows,) bool."""
    return (times >= EARLIEST_US) & (times <= latest_us + DAY_US)


@dataclass(frozen=True)
class Anchors:
    """Proven offsets of the client's clock: at local time `local_us[i]` it was `offset_us[i]` ahead of UTC."""

    # (anchors,) int64 each; `merged` sorts by `local_us`.
    local_us: np.ndarray
    offset_us: np.ndarray

    @staticmethod
    def proven(local: np.ndarray, utc: np.ndarray, latest_us: int) -> "Anchors":
        """Returns anchors from pairs of local time and UTC; skips pairs whose difference is no time zone's offset."""
        offsets, is_proof = _offsets(local, utc, latest_us)
        return Anchors(local[is_proof], offsets[is_proof])

    @staticmethod
    def merged(parts: "list[Anchors]") -> "Anchors":
        """Returns all anchors of `parts`, sorted by local time."""
        local = np.concatenate([np.empty(0, np.int64), *[part.local_us for part in parts]])
        offset = np.concatenate([np.empty(0, np.int64), *[part.offset_us for part in parts]])
        order = np.argsort(local, kind="stable")
        return Anchors(local[order], offset[order])

    def nearest_offsets(self, local: np.ndarray) -> np.ndarray:
        """Returns the offset that is proven nearest to each local time: (rows,) int64. There must be an anchor."""
        after = np.clip(np.searchsorted(self.local_us, local), 1, max(1, len(self.local_us) - 1))
        after = np.minimum(after, len(self.local_us) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.where(np.abs(local - self.local_us[before]) <= np.abs(self.local_us[after] - local), before, after)
        offsets: np.ndarray = self.offset_us[nearer]
        return offsets


def _offsets(local: np.ndarray, utc: np.ndarray, latest_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns local time minus UTC to the quarter hour, (rows,) int64, and whether a time zone has that offset."""
    usable = plausible(utc, latest_us) & plausible(local, latest_us)
    difference = np.where(usable, local, 0) - np.where(usable, utc, 0)
    offsets = np.round(difference / QUARTER_US).astype(np.int64) * QUARTER_US
    is_near = usable & (np.abs(difference - offsets) <= PROOF_TOLERANCE_US)
    return offsets, is_near & np.isin(offsets, zone_table().real_offsets_us)


def _believed_kinds(local: np.ndarray, ids: IdTimes, agrees: np.ndarray, latest_us: int) -> frozenset[int]:
    """Returns the kinds of ids that are believed. `agrees`, (rows,) bool: ids that prove an offset.

    A kind is believed if at least half of its ids agree with the local time beside them. Rows that were imported have
    an id much later than their time: ids that are further from it than any zone's offset do not count against
    `MANY_PROOFS` ids that agree.
    """
    is_pair = plausible(ids.times_us, latest_us) & plausible(local, latest_us)
    believed = set()
    for kind in (ULID_ID, UUID7_ID):
        pairs = is_pair & (ids.kinds == kind)
        agreeing = int((agrees & pairs).sum())
        if not agreeing:
            continue
        difference = local[pairs] - ids.times_us[pairs]
        near = int(((difference > WEST_US - QUARTER_US) & (difference < EAST_US + QUARTER_US)).sum())
        if 2 * agreeing >= pairs.sum() or (agreeing >= MANY_PROOFS and 2 * agreeing >= near):
            believed.add(kind)
    return frozenset(believed)


@dataclass(frozen=True)
class Clock:
    """The clock of one client, as one upload proves it."""

    anchors: Anchors
    # (fitting,) int64, positions in the zone table: the zones that fit all anchors, preferred ones first.
    zones: np.ndarray
    # The kinds of ids whose times are believed.
    believed: frozenset[int] = frozenset()

    @staticmethod
    def of(anchors: Anchors, believed: frozenset[int] = frozenset()) -> "Clock":
        """Returns the clock with these anchors."""
        if not len(anchors.local_us):
            return Clock(anchors, np.empty(0, np.int64), believed)
        utc = anchors.local_us - anchors.offset_us
        return Clock(anchors, zone_table().fitting(utc, anchors.offset_us, PROOF_TOLERANCE_US), believed)

    @staticmethod
    def proven(local: np.ndarray, utc: np.ndarray, ids: IdTimes, latest_us: int) -> "Clock":
        """Returns the clock that rows with a local time and a UTC time or a believed id prove."""
        offsets, agrees = _offsets(local, ids.times_us, latest_us)
        believed = _believed_kinds(local, ids, agrees, latest_us)
        agrees &= np.isin(ids.kinds, list(believed))
        of_ids = Anchors(local[agrees], offsets[agrees])
        return Clock.of(Anchors.merged([of_ids, Anchors.proven(local, utc, latest_us)]), believed)

    def to_utc(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns each local time in UTC, (rows,) int64, and whether a zone says so and not the nearest anchor.

        Without an anchor, local times are returned unchanged. If several zones fit, the first preferred one counts;
        without a preferred one, a time in which they differ uses the nearest anchor.
        """
        if not len(self.anchors.local_us):
            return local, np.zeros(len(local), bool)
        nearest_offsets = self.anchors.nearest_offsets(local)
        nearest = local - nearest_offsets
        if not len(self.zones):
            return nearest, np.zeros(len(local), bool)
        table = zone_table()
        chosen = self.zones[:1] if table.is_preferred(int(self.zones[0])) else self.zones
        utc = table.to_utc(int(chosen[0]), local, nearest_offsets)
        for row in chosen[1:].tolist():
            utc = np.where(table.to_utc(row, local, nearest_offsets) == utc, utc, nearest)
        return utc, utc != nearest


@dataclass(frozen=True)
class EventTimes:
    """The resolved time of each row."""

    # (rows,) int64 UTC microseconds.
    occurred_us: np.ndarray
    # (rows,) int8, positions in OCCURRED_FROM.
    occurred_from: np.ndarray
    # (rows,) bool: the row has a time, and it is not plausible.
    out_of_range: np.ndarray


def resolve(local: np.ndarray, utc: np.ndarray, ids: IdTimes, clock: Clock, latest_us: int) -> EventTimes:
    """Resolves the best known time of each row.

    `local`, `utc`: (rows,) int64 microseconds, MISSING if there is none: the naive local time, the time with a zone.
    `latest_us`: the time of a row without one of its own; a later one is implausible.
    """
    _, agrees = _offsets(local, ids.times_us, latest_us)
    known_utc = plausible(utc, latest_us)
    has_local = local != MISSING

    occurred = np.full(len(local), latest_us, dtype=np.int64)
    code = np.full(len(local), SNAPSHOT, dtype=np.int8)

    # Far from 1970, subtracting an offset overflows int64; such times are out of range anyway.
    within = has_local & (local >= EARLIEST_US - DAY_US) & (local <= latest_us + 2 * DAY_US)
    moved, is_inferred = clock.to_utc(np.where(within, local, EARLIEST_US))
    usable = within & plausible(moved, latest_us)
    occurred[usable] = moved[usable]
    code[usable] = ULID_OFFSET if len(clock.anchors.local_us) else LOCAL_ASSUMED_UTC
    code[usable & is_inferred] = ZONE_INFERRED

    # No migration makes ULIDs, so that of a row without a time is right where the others agree.
    is_alone = ~has_local & (ids.kinds == ULID_ID) & plausible(ids.times_us, latest_us)
    from_id = (agrees | is_alone) & np.isin(ids.kinds, list(clock.believed))
    occurred[from_id] = ids.times_us[from_id]
    code[from_id] = np.where(ids.kinds[from_id] == ULID_ID, ULID, UUID7)
    occurred[known_utc], code[known_utc] = utc[known_utc], UTC_COLUMN
    has_time = has_local | (utc != MISSING)
    return EventTimes(occurred, code, has_time & (code == SNAPSHOT))


@dataclass(frozen=True)
class Clocks:
    """The clocks of several uploads, each proven by its own rows.

    `uploads` of the methods is the position of each row's upload: (rows,) int64.
    """

    clocks: list[Clock]
    # (uploads,) int64 UTC microseconds: `latest_us` of `resolve`.
    latest_us: np.ndarray

    @staticmethod
    def unproven(latest_us: np.ndarray) -> "Clocks":
        """Returns clocks without anchors, for uploads without rows."""
        return Clocks([Clock.of(Anchors.merged([])) for _ in latest_us], latest_us)

    @staticmethod
    def proven(
        local: np.ndarray, utc: np.ndarray, ids: IdTimes, uploads: np.ndarray, latest_us: np.ndarray
    ) -> "Clocks":
        """Returns clocks with the anchors of rows that have a local time and a UTC time or a time in their id."""
        clocks = [
            Clock.proven(local[rows], utc[rows], ids.take(rows), latest)
            for rows, latest in _by_upload(uploads, latest_us)
        ]
        return Clocks(clocks, latest_us)

    def resolve(self, local: np.ndarray, utc: np.ndarray, ids: IdTimes, uploads: np.ndarray) -> EventTimes:
        """Resolves the time of each row with the clock of its upload."""
        times = EventTimes(np.empty(len(local), np.int64), np.empty(len(local), np.int8), np.empty(len(local), bool))
        for (rows, latest), clock in zip(_by_upload(uploads, self.latest_us), self.clocks, strict=True):
            own = resolve(local[rows], utc[rows], ids.take(rows), clock, latest)
            times.occurred_us[rows], times.occurred_from[rows] = own.occurred_us, own.occurred_from
            times.out_of_range[rows] = own.out_of_range
        return times


def _by_upload(uploads: np.ndarray, latest_us: np.ndarray) -> Iterator[tuple[np.ndarray | slice, int]]:
    """Yields the positions of the rows of each upload, and its `latest_us`."""
    is_alone = len(latest_us) == 1
    for place, latest in enumerate(latest_us.tolist()):
        yield slice(None) if is_alone else np.flatnonzero(uploads == place), latest

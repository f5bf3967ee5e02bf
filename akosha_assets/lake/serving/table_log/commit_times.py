"""Commit times of a table's versions, from the log entries, by the clocks of the writers.

File times are not used, so a copied or restored lake keeps its commit times. Times ascend with versions even if clocks
differ: each commit is at least a millisecond later than the one before it.
"""

import json
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.objects import ObjectStore

# The largest difference between the clocks of writers that is corrected for.
CLOCKS_DIFFER_MS = 60_000
# Entries to read at most while going back to a commit that is older by any clock.
ENTRIES_BACK = 2_000
ENTRIES_CACHED = 50_000
ENTRY_MAX_BYTES = 1 << 30
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


class CommitTimes:
    """The commit times of one table. Not thread-safe."""

    def __init__(self, table: ObjectStore):
        self._table = table
        self._read: OrderedDict[int, int] = OrderedDict()

    def at(self, version: int) -> datetime | None:
        """The commit time of `version`; None if its entry is missing, or neither it nor an earlier one has a time.

        An entry without a time, which some writers omit, counts as committed right after the one before it.

        Raises:
            StoreUnavailable: the log could not be read.
        """
        if self._own(version) is None:
            return None
        *_, (_, time) = self._ascending(version, None)
        return EPOCH + time * MILLISECOND if time else None

    def last_until(self, time: datetime, oldest: int, newest: int) -> int:
        """The last version that was committed at or before `time`, by bisection; `oldest` must be such a version.

        Also reads the entries of the minute before `time`. Raises: as `at`.
        """
        target = (time - EPOCH) // MILLISECOND
        while newest > oldest:
            low, high = oldest, newest
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if (self._own(middle) or 0) <= target else (low, middle - 1)
            # By its own clock; an earlier commit may come from a clock that is ahead.
            near = self._ascending(low, target)
            if until := [version for version, at in near if at <= target]:
                return max(until[-1], oldest)
            newest = near[0][0] - 1 if near else oldest
        return oldest

    def _ascending(self, version: int, target: int | None) -> list[tuple[int, int]]:
        """`version` and the versions before it that clocks may have mixed up, oldest first, with ascending times.

        Goes back to a commit that is before `target`, or before `version`, by any clock. A time of 0 is unknown.
        """
        run: list[tuple[int, int]] = []
        latest = 0
        for one in range(version, max(-1, version - ENTRIES_BACK), -1):
            own = self._own(one)
            if own is None:
                break
            run.append((one, own))
            latest = max(latest, own)
            if own and own <= (latest if target is None else target) - CLOCKS_DIFFER_MS:
                break
        times: list[tuple[int, int]] = []
        before = 0
        for one, own in reversed(run):
            before = max(own, before + 1) if before else own
            times.append((one, before))
        return times

    def _own(self, version: int) -> int | None:
        """The time in the entry of `version` in milliseconds, 0 if the entry has no time; None if there is no entry."""
        if version not in self._read:
            name = f"_delta_log/{version:020d}.json"
            try:
                entry = self._table.read(name, max_bytes=ENTRY_MAX_BYTES)
            except UploadRejected as error:
                if error.reason == "file_missing":
                    return None
                raise StoreUnavailable(f"{self._table.url}/{name}", error.message) from error
            self._read[version] = _commit_timestamp(entry)
            if len(self._read) > ENTRIES_CACHED:
                self._read.popitem(last=False)
        return self._read[version]


def _commit_timestamp(entry: bytes) -> int:
    """The time in a log entry in milliseconds since 1970; 0 if the entry has no time."""
    for line in entry.splitlines():
        if line.startswith(b'{"commitInfo"'):
            time = json.loads(line)["commitInfo"].get("timestamp")
            return time if isinstance(time, int) and time > 0 else 0
    return 0

"""When the versions of a table were committed: the time in each commit's own log entry, as its writer's clock told.

The time of the file is never asked: a copy of a lake and a restored one keep the times of the first. Times ascend with
versions even where clocks differ: a commit is at least a millisecond later than the one before it.
"""

import json
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.objects import ObjectStore

# Clocks of writers are taken to differ by no more, so no commit counts as later than one that is this much later by its
# own.
CLOCKS_DIFFER_MS = 60_000
# Entries looked at on the way back to where no clock can matter any more.
ENTRIES_BACK = 2_000
ENTRIES_KEPT = 50_000
ENTRY_MAX_BYTES = 1 << 30
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


class CommitTimes:
    """The times of one table's commits. Not for use from two threads."""

    def __init__(self, table: ObjectStore):
        self._table = table
        self._read: OrderedDict[int, int] = OrderedDict()

    def at(self, version: int) -> datetime | None:
        """When `version` was committed; None where the log has no entry of it, or neither that nor an earlier one tells
        a time.

        An entry without a time, which some writers leave out, counts as committed right after the one before it.

        Raises:
            StoreUnavailable: the log could not be read.
        """
        if self._own(version) is None:
            return None
        *_, (_, time) = self._ascending(version, None)
        return EPOCH + time * MILLISECOND if time else None

    def last_until(self, time: datetime, oldest: int, newest: int) -> int:
        """The last version that was committed at `time` or before it; `oldest` is one that was.

        Reads as many entries as halving the log takes, and those of the minute before `time`. Raises as `at`.
        """
        wanted = (time - EPOCH) // MILLISECOND
        while newest > oldest:
            low, high = oldest, newest
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if (self._own(middle) or 0) <= wanted else (low, middle - 1)
            # By its own clock; one before it may have been committed by a clock that is ahead.
            near = self._ascending(low, wanted)
            if until := [version for version, at in near if at <= wanted]:
                return max(until[-1], oldest)
            newest = near[0][0] - 1 if near else oldest
        return oldest

    def _ascending(self, version: int, wanted: int | None) -> list[tuple[int, int]]:
        """`version` and those before it that clocks may have mixed up, oldest first, each with its time in ascending
        order.

        Goes back to where all clocks agree that it was before `wanted`, or before `version`; 0 is a time that nobody
        told.
        """
        run: list[tuple[int, int]] = []
        latest = 0
        for one in range(version, max(-1, version - ENTRIES_BACK), -1):
            own = self._own(one)
            if own is None:
                break
            run.append((one, own))
            latest = max(latest, own)
            if own and own <= (latest if wanted is None else wanted) - CLOCKS_DIFFER_MS:
                break
        times: list[tuple[int, int]] = []
        before = 0
        for one, own in reversed(run):
            before = max(own, before + 1) if before else own
            times.append((one, before))
        return times

    def _own(self, version: int) -> int | None:
        """The milliseconds that the entry of `version` tells, 0 where it tells none; None where there is no entry."""
        if version not in self._read:
            name = f"_delta_log/{version:020d}.json"
            try:
                entry = self._table.read(name, max_bytes=ENTRY_MAX_BYTES)
            except UploadRejected as error:
                if error.reason == "file_missing":
                    return None
                raise StoreUnavailable(f"{self._table.url}/{name}", error.message) from error
            self._read[version] = _commit_timestamp(entry)
            if len(self._read) > ENTRIES_KEPT:
                self._read.popitem(last=False)
        return self._read[version]


def _commit_timestamp(entry: bytes) -> int:
    """The time that a log entry tells, in milliseconds since 1970; 0 where it tells none."""
    for line in entry.splitlines():
        if line.startswith(b'{"commitInfo"'):
            time = json.loads(line)["commitInfo"].get("timestamp")
            return time if isinstance(time, int) and time > 0 else 0
    return 0

"""The versions of a table by time, their files, and the oldest version that can still be read, from the log alone."""

from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime
from urllib.parse import unquote

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, StoreUnavailable
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.serving.table_log.commit_times import CommitTimes
from akosha_assets.lake.serving.table_log.files import Listing, described_files

LISTINGS_CACHED = 16
TIMES_CACHED = 256


class Versions:
    """The versions of one table. Not thread-safe."""

    def __init__(self, lake: Lake, address: str):
        self.lake, self.address = lake, address
        self._store = ObjectStore(f"{lake.settings.lake()}/{address}")
        self._times = CommitTimes(self._store)
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._at: OrderedDict[datetime, int] = OrderedDict()
        self._newest = -1

    def committed_at(self, version: int) -> datetime | None:
        """The commit time of `version`; None if the log does not have it. Raises: as `CommitTimes.at`."""
        return self._times.at(version)

    def at(self, time: datetime, newest: int) -> int | None:
        """The version that the table had at `time`, which must be in the past; None if it did not exist yet.

        Raises:
            InvalidRequest: the log does not reach back to `time`.
            StoreUnavailable: the log could not be read.
        """
        if newest < self._newest:
            # The table was repaired or restored, so its earlier versions no longer apply.
            self._times = CommitTimes(self._store)
            self._listings.clear()
            self._at.clear()
        self._newest = newest
        if time in self._at:
            return self._at[time]
        last = self.committed_at(newest)
        if last is None:
            raise StoreUnavailable(self.lake.uri(self.address), f"its log has no commit time of version {newest}")
        if last <= time:
            return newest
        first = self.first_in_log()
        begun = self.committed_at(first)
        if begun is None or begun > time:
            if first == 0 and begun is not None:
                return None
            raise self.too_old(f"{time.isoformat()} is before the first commit in the log of {self.address}", newest)
        version = self._times.last_until(time, first, newest)
        self._at[time] = version
        if len(self._at) > TIMES_CACHED:
            self._at.popitem(last=False)
        return version

    def listing(self, version: int) -> Listing:
        """The files of `version`.

        Raises:
            InvalidRequest: the log no longer has the version, or does not have it yet.
            StoreUnavailable: the log could not be read.
        """
        if version not in self._listings:
            table = self.lake.open(self.address, version)
            if table is None:
                raise InvalidRequest("as_of", f"{self.address} has no version {version} that can be read")
            self._listings[version] = Listing(
                version, self.committed_at(version), described_files(tables.data_files(table))
            )
            if len(self._listings) > LISTINGS_CACHED:
                self._listings.popitem(last=False)
        self._listings.move_to_end(version)
        return self._listings[version]

    def is_whole(self, version: int, present: Collection[str]) -> bool:
        """Whether every file of `version` still exists; the files of `present` are known to exist."""
        unknown = (path for path in self.listing(version).files if path not in present)
        return all(self._store.head(unquote(path)) is not None for path in unknown)

    def first_in_log(self) -> int:
        """The first version that the log has an entry of."""
        for entry in self._store.list("_delta_log"):
            name = entry.key.removeprefix("_delta_log/")
            if name.endswith(".json") and name[:20].isdecimal():
                return int(name[:20])
        return 0

    def too_old(self, what: str, newest: int) -> InvalidRequest:
        """An error that names the oldest version that can be read."""
        present = self.listing(newest).files
        low, high = self.first_in_log(), newest
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._can_be_read(middle, present) else (middle + 1, high)
        oldest = self.committed_at(low)
        when = "" if oldest is None else f", committed at {oldest.isoformat()}"
        return InvalidRequest("as_of", f"{what}; expected version {low} of {self.address}{when}, or a later one")

    def _can_be_read(self, version: int, present: Collection[str]) -> bool:
        try:
            return self.is_whole(version, present)
        except InvalidRequest:
            return False

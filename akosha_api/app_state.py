"""What the routes share: the replica, the searcher, and a bounded pool of threads that searches run in."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TypeVar

from akosha_api.errors import Overloaded, TooSlow
from akosha_api.inbox_check import InboxCheck
from akosha_api.settings import ApiSettings
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import TierUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.time_limit import TimeLimitExceeded, time_limit
from akosha_assets.lake.serving.time_travel.snapshots import VERSIONED_TIERS, TimeTravel

T = TypeVar("T")


class Pool:
    """Runs `threads` calls at a time, lets `queue` more wait, and refuses the next."""

    def __init__(self, threads: int, queue: int, seconds: float):
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._most, self._seconds = threads + queue, seconds
        self._under_way = 0

    async def run(self, call: Callable[[], T], *, seconds: float | None = None) -> T:
        """What `call` returns, within the seconds given, or those that any call may take.

        Raises:
            Overloaded: as many calls wait as may wait, or no thread was free in time: then it is never made.
            TooSlow: it did not return in time; its thread ends it at its next look at the clock.
        """
        wait = self._seconds if seconds is None else seconds
        if self._under_way >= self._most:
            raise Overloaded(self._under_way)
        self._under_way += 1
        submitted = self._executor.submit(_limited, call, wait, time.monotonic())
        future = asyncio.wrap_future(submitted)
        future.add_done_callback(self._done)
        # The call goes on when the caller leaves; its thread is taken until then either way.
        done, _ = await asyncio.wait((future,), timeout=wait)
        if not done:
            raise Overloaded(self._under_way) if submitted.cancel() else TooSlow(wait)
        try:
            return future.result()
        except TimeLimitExceeded as error:
            raise TooSlow(error.seconds) from error

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._under_way -= 1
        if not future.cancelled():
            # A caller that left does not read the outcome; asking for it here keeps the loop from warning of that.
            future.exception()

    def close(self) -> None:
        """No call waits any more."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _limited(call: Callable[[], T], seconds: float, started_at: float) -> T:
    with time_limit(seconds, started_at=started_at):
        return call()


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What every request may use, from the start of the service to its end."""

    lake: Lake
    settings: ApiSettings
    replica: Replica
    past: TimeTravel
    searcher: Searcher
    pool: Pool
    past_pool: Pool
    sql_pool: Pool
    inbox: InboxCheck
    started_at: datetime
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger.open(self.lake.settings)

    def ledger(self) -> Ledger:
        """The ledger, opened when first asked for: search does without it."""
        with self._opening:
            return self._ledger

    async def snapshot(self, as_of: int | datetime | None, *, seconds: float | None = None) -> Snapshot:
        """What is served now, or the tables as they stood then.

        Raises:
            TierUnavailable: the past is made from what is served now, and a tier is not. Else as `TimeTravel.snapshot`
                and `Pool.run`.
        """
        present = self.replica.snapshot
        if as_of is None:
            return present
        if missing := {
            name: tier.doubt or ""
            for name, tier in present.tiers.items()
            if name in VERSIONED_TIERS and not tier.is_loaded
        }:
            raise TierUnavailable("the tables cannot be asked as of a past time now", missing)
        # Files that left may have to be loaded, which must not take the threads of other searches.
        return await self.past_pool.run(partial(self.past.snapshot, as_of), seconds=seconds)

    def close(self) -> None:
        """Nothing of this is open any more."""
        self.pool.close()
        self.past_pool.close()
        self.sql_pool.close()
        self.past.close()
        self.replica.stop()
        if "_ledger" in self.__dict__:
            self._ledger.close()

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the service started."""
        return (datetime.now(UTC) - self.started_at).total_seconds()

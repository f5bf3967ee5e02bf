"""The state that all requests share, and the bounded thread pools that their calls run in."""

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
    """A thread pool with a bounded queue: `threads` calls run, `queue` more wait, and the next is refused."""

    def __init__(self, *, threads: int, queue: int, seconds: float):
        """`seconds` is the time limit of a call, waiting included."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._max_calls, self._seconds = threads + queue, seconds
        self._calls = 0

    async def run(self, call: Callable[[], T], *, seconds: float | None = None) -> T:
        """What `call` returns, within `seconds` or the time limit of the pool.

        Raises:
            Overloaded: the queue is full, or no thread was free in time; the call is not made.
            TooSlow: the call did not return in time; it stops at its next check of the time limit.
        """
        timeout = self._seconds if seconds is None else seconds
        if self._calls >= self._max_calls:
            raise Overloaded(self._calls)
        self._calls += 1
        submitted = self._executor.submit(_run_limited, call, timeout, time.monotonic())
        future = asyncio.wrap_future(submitted)
        future.add_done_callback(self._finish)
        # Not cancelled if the caller disconnects: the call keeps its thread anyway.
        done, _ = await asyncio.wait((future,), timeout=timeout)
        if not done:
            raise Overloaded(self._calls) if submitted.cancel() else TooSlow(timeout)
        try:
            return future.result()
        except TimeLimitExceeded as error:
            raise TooSlow(error.seconds) from error

    def _finish(self, future: "asyncio.Future[T]") -> None:
        self._calls -= 1
        if not future.cancelled():
            # Otherwise the loop warns of an exception that nobody retrieved, if the caller has disconnected.
            future.exception()

    def close(self) -> None:
        """Cancels the calls that wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _run_limited(call: Callable[[], T], seconds: float, started_at: float) -> T:
    with time_limit(seconds, started_at=started_at):
        return call()


@dataclass(frozen=True, kw_only=True)
class AppState:
    """The parts of the service, from its start to its end."""

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
        """The ledger, opened at the first call: search does not need it."""
        with self._opening:
            return self._ledger

    async def snapshot(self, as_of: int | datetime | None, *, seconds: float | None = None) -> Snapshot:
        """The current snapshot, or that of an earlier version of the tables.

        Raises:
            TierUnavailable: a tier is not loaded, which an earlier snapshot is made from.
            Exception: as `TimeTravel.snapshot` and `Pool.run`.
        """
        current = self.replica.snapshot
        if as_of is None:
            return current
        if missing := {
            name: tier.doubt or ""
            for name, tier in current.tiers.items()
            if name in VERSIONED_TIERS and not tier.is_loaded
        }:
            raise TierUnavailable("the tables cannot be searched as of an earlier time now", missing)
        # Removed files may have to be loaded, which must not block the threads of other searches.
        return await self.past_pool.run(partial(self.past.snapshot, as_of), seconds=seconds)

    def close(self) -> None:
        """Closes the pools, the replica and the ledger."""
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

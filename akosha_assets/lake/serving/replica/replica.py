"""The replica: what this process serves, built from the Delta tables alone and kept up to date by their logs.

Any number of processes have one each; none shares a file with another. What it keeps on disk is a cache that a later
process goes on with. How one table is held is in `tier_replica.py`, how a question is answered in `searcher.py`.
"""

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError, StoreUnavailable
from akosha_assets.lake.serving.parts.part import CODED, Categories, hide_shadowed
from akosha_assets.lake.serving.replica import allocator
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.replica.checkpoint import Checkpoint
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.replica.keyword_update import update_keywords
from akosha_assets.lake.serving.replica.loading import Hasher, Loader
from akosha_assets.lake.serving.replica.tier_replica import TierReplica
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.table_log.files import Follower, Listing, LocalFiles
from akosha_assets.lake.serving.text.keyword_index import LARGE_LOAD_ROWS
from akosha_assets.lake.tables import KnownTable
from akosha_assets.lake.telemetry import RateLimitedWarning

logger = logging.getLogger(__name__)

# The order in which tables are looked at: a row that moved is in the colder one before it leaves the hotter one.
TIERS = ("hot", "warm", "cold")
# Versions of the hot table of which it is known since when they are served.
REACHED_KEPT = 5000


class _Stopping(Exception):
    """The process ends; what was begun is left for the next one."""


class Replica:
    """Follows the tier tables: `refresh` does one step, `start` one every `poll_seconds` in a thread until `stop`."""

    def __init__(
        self,
        lake: Lake,
        *,
        poll_seconds: float = 0.5,
        memory_bytes: int = 1 << 40,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        known_table: Callable[[str], KnownTable | None] = lambda _: None,
    ):
        """`known_table` returns what the ledger knows of the table at an address; one that is gone is not taken as
        empty, and a replaced one is not served.
        """
        self.lake, self.poll_seconds, self.today = lake, poll_seconds, today
        cache = lake.settings.home / "cache"
        self._cache = CacheFolder(cache / "serving")
        self.terms = {name: Categories() for name in CODED}
        self._tails = {
            tier: TierReplica(
                tier,
                Follower(lake, f"lifecycle/{tier}", known_table),
                Loader(tier, LocalFiles(lake, f"lifecycle/{tier}", cache / "files"), self.terms),
                self._cache,
                IndexCache(self._cache, tier),
                self._first_hot_day if tier == "hot" else lambda: date.max,
                memory_bytes,
            )
            for tier in TIERS
        }
        self.quantizers = {tier: tail.indexes.quantizers for tier, tail in self._tails.items()}
        self._checkpoint = Checkpoint(self._cache, self.terms, self._tails)
        self._keywords, self._next_number = self._checkpoint.reopen()
        self._hash = Hasher()
        self._reached: list[tuple[int, datetime]] = []
        self._looked_at = time.monotonic()
        self._unfollowed = RateLimitedWarning(logger, "the replica could not follow the tables")
        self._is_filling = True
        # Whether the checkpoint describes what is served.
        self._is_saved = False
        # Whether all rows that are served have their indexes and words.
        self.is_settled = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.snapshot = Snapshot(
            {tier: TierView(tier) for tier in TIERS}, self._keywords.searcher, 0, self.terms, self._hash
        )

    @property
    def folder(self) -> Path:
        """The folder of its cache; it does not exist while none could be created."""
        return self._cache.path

    @property
    def cache_reason(self) -> str | None:
        """Why nothing can be written to the cache, so that all is served from memory; None while it can."""
        return self._cache.reason

    def start(self) -> None:
        """The thread that follows the tables runs, which it may do already."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended and the cache folder is free for another process."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._keywords.close()
        self._cache.release()

    def reached_at(self, version: int) -> datetime | None:
        """When this process first served `version` of the hot table or a later one; None while it does not."""
        at = bisect_left(self._reached, version, key=lambda entry: entry[0])
        return self._reached[at][1] if at < len(self._reached) else None

    def silent_seconds(self) -> float:
        """Seconds since the tables were last looked at with success."""
        return time.monotonic() - self._looked_at

    def refresh(self) -> None:  # noqa: C901
        """The snapshot shows the newest committed versions.

        Raises:
            LakeError: a table could not be read. It stays as it was and says so, the other tiers go on, and the next
                call tries again.
        """
        failed: LakeError | None = None
        changed = False
        views = dict(self.snapshot.tiers)
        before = self.snapshot.rows
        # Where nothing is served yet, what there is answers at once. Later, rows that were written anew must not be
        # without words.
        self._is_filling = before == 0
        self._renew_cache()
        for tier, tail in self._tails.items():
            try:
                listing = tail.poll()
                if listing is not None:
                    self.is_settled = False
                    self._follow(tail, listing, views)
                    changed = True
                    views[tier] = replace(
                        views[tier],
                        state="ready",
                        reason=tail.set_aside.reason,
                        version=listing.version,
                        watermark=listing.committed_at,
                        rows_set_aside=tail.set_aside.row_count,
                        rows_unreadable=tail.set_aside.unreadable_rows,
                        identities_set_aside=tail.set_aside.identities,
                    )
                elif views[tier].version is None:
                    views[tier] = replace(
                        views[tier], state="empty", reason=f"nothing was written to the {tier} table yet"
                    )
            except LakeError as error:
                failed = error
                tail.follower.forget()
                views[tier] = replace(views[tier], state="unavailable", reason=str(error))
            except _Stopping:
                raise
            except Exception as error:  # the edge of what one table may cost: that tier, not the others
                logger.exception("a tier could not be followed", extra={"tier": tier})
                failed = StoreUnavailable(self.lake.uri(f"lifecycle/{tier}"), f"{type(error).__name__}: {error}")
                tail.follower.forget()
                views[tier] = replace(views[tier], state="unavailable", reason=str(failed))
        rows = sum(len(part) for tail in self._tails.values() for held in tail.parts.values() for part in held)
        if self._is_filling:
            # Answers by meaning are whole from here on, though slow until the indexes are made: every word is found
            # before that.
            self._publish(views)
        self._keywords = update_keywords(
            self._keywords,
            self._tails.values(),
            self._checkpoint,
            go_on=self._go_on,
            on_commit=lambda: self._publish(views) if self._is_filling else None,
        )
        if rows - before > LARGE_LOAD_ROWS:
            allocator.trim_heap()
        self._publish(views)
        if changed and views["hot"].version is not None:
            # A repaired or restored table begins at a lower version again.
            version = views["hot"].version
            earlier = [one for one in self._reached[-REACHED_KEPT:] if one[0] < version]
            self._reached = [*earlier, (version, datetime.now(UTC))]
        if self._settle(views) or changed:
            self._is_saved = False
            if rows - before > LARGE_LOAD_ROWS:
                allocator.trim_heap()
        self._save()
        if failed is not None:
            raise failed
        self.is_settled = True
        self._looked_at = time.monotonic()

    def _renew_cache(self) -> None:
        """Follows what became of the cache folder: removed, or writable again after a failure."""
        was_writable = self._cache.reason is None
        is_new = self._cache.renew()
        if self._cache.reason is None and not was_writable:
            for tail in self._tails.values():
                tail.set_aside.retry_all()
        is_back = self._keywords.folder is None and self._cache.reason is None
        if not is_new and not is_back:
            return
        for tail in self._tails.values():
            if is_new:
                tail.detach()
            tail.forget_words()
        self._keywords.close()
        # What was published goes on with the old index until all words are in the new one.
        self._keywords = self._checkpoint.start_empty() if is_new else self._checkpoint.replace_keywords()
        self._is_saved = self.is_settled = False

    def _save(self) -> None:
        """Writes the checkpoint where it is due. One without a keyword index on disk would be of no use."""
        if self._is_saved or self._keywords.folder is None:
            return
        with suppress(CacheUnavailable):
            self._checkpoint.write(self._next_number)
            self._is_saved = True

    def _settle(self, views: dict[str, TierView]) -> bool:
        if settled := True in [tail.settle(self._go_on) for tail in self._tails.values()]:
            self._publish(views)
        return settled

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except _Stopping:
                return
            except LakeError as error:
                self._unfollowed.warn(str(error))
            except Exception as error:  # the edge of the thread: what is served goes on, and says that it is old
                logger.exception("the replica failed")
                reason = f"{type(error).__name__}: {error}"
                for tail in self._tails.values():
                    tail.follower.forget()
                self._publish(
                    {
                        tier: replace(view, state="unavailable", reason=reason)
                        for tier, view in self.snapshot.tiers.items()
                    }
                )
            self._stopping.wait(self.poll_seconds)

    def _follow(self, tail: TierReplica, listing: Listing, views: dict[str, TierView]) -> None:
        parts = tail.without([path for path in tail.loads if path not in listing.files])
        loads = {path: load for path, load in tail.loads.items() if path in listing.files}
        for day, part, numbered, next_number in tail.load(tail.missing(), self._next_number, self._go_on):
            self._next_number = next_number
            loads |= numbered
            if part is not None:
                parts[day] = (*parts.get(day, ()), part)
            if self._is_filling:
                # Vectors answer while the rest of the first load is under way.
                tail.parts, tail.loads = dict(parts), dict(loads)
                views[tail.tier] = replace(
                    views[tail.tier], reason=f"{len(loads)} of {len(listing.files)} files loaded"
                )
                self._publish(views)
        tail.parts, tail.loads = parts, loads

    def _publish(self, views: dict[str, TierView]) -> None:
        hotter: list[TierReplica] = []
        tiers = {}
        for tier, tail in self._tails.items():
            for day in list(tail.parts):
                above = tuple(part for other in hotter for part in other.parts.get(day, ()))
                if above or any(part.hidden is not None for part in tail.parts[day]):
                    tail.parts[day] = hide_shadowed(tail.parts[day], above)
            parts = tuple(part for day in sorted(tail.parts, reverse=True) for part in tail.parts[day])
            tiers[tier] = replace(
                views[tier], parts=parts, refused_vectors=tail.loader.refused_vectors, loads=tail.loads
            )
            hotter.append(tail)
        with_words = sum(tail.rows_with_words for tail in self._tails.values())
        self.snapshot = Snapshot(tiers, self._keywords.searcher, with_words, self.terms, self._hash)

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _Stopping

    def _first_hot_day(self) -> date:
        return self.today() - timedelta(days=self.lake.settings.hot_days)

"""The replica: the rows that this process serves, loaded from the Delta tables and updated by following their logs.

Each process has a replica of its own, and shares no file with others. Its files on disk are a cache that a later
process continues with. One table is in `tier_replica.py`; searches are in `searcher.py`.
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
from akosha_assets.lake.serving.parts.part import CODED, Categories
from akosha_assets.lake.serving.replica import allocator
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.replica.checkpoint import Checkpoint
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.replica.keyword_update import update_keywords
from akosha_assets.lake.serving.replica.loading import Hasher, Loader
from akosha_assets.lake.serving.replica.presence_replica import PresenceReplica
from akosha_assets.lake.serving.replica.tier_replica import TierReplica, current_views
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.states import ViewState
from akosha_assets.lake.serving.table_log.files import Follower, Listing, LocalFiles
from akosha_assets.lake.serving.text.keyword_index import LARGE_LOAD_ROWS
from akosha_assets.lake.tables import KnownTable
from akosha_assets.lake.telemetry import RateLimitedWarning
from akosha_assets.lake.tiers import TIERS, Tier

logger = logging.getLogger(__name__)

# Versions of the hot table whose time of serving is remembered.
SERVED_VERSIONS = 5000


class _Stopping(Exception):
    """The process stops, and the step is not finished."""


class Replica:
    """Follows the tier tables. `start` calls `refresh` every `poll_seconds` in a thread, until `stop`."""

    def __init__(
        self,
        lake: Lake,
        *,
        poll_seconds: float = 0.5,
        memory_bytes: int = 1 << 40,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        known_table: Callable[[str], KnownTable | None] = lambda _: None,
    ):
        """`known_table` returns what the ledger knows of the table at an address: a lost table is not served as empty,
        and a replaced one is not served.
        """
        self.lake, self.poll_seconds, self.today = lake, poll_seconds, today
        cache = lake.settings.home / "cache"
        self._cache = CacheFolder(cache / "serving")
        self.terms = {name: Categories() for name in CODED}
        self._tiers: dict[str, TierReplica] = {
            tier: TierReplica(
                tier,
                Follower(lake, f"lifecycle/{tier}", known_table),
                Loader(tier, LocalFiles(lake, f"lifecycle/{tier}", cache / "files"), self.terms),
                self._cache,
                IndexCache(self._cache, tier),
                self._first_hot_day if tier == Tier.HOT else lambda: date.max,
                memory_bytes,
            )
            for tier in TIERS
        }
        self._presence = PresenceReplica(lake, cache / "files", known_table)
        self.quantizers = {name: tier.indexes.quantizers for name, tier in self._tiers.items()}
        self._checkpoint = Checkpoint(self._cache, self.terms, self._tiers)
        self._keywords, self._next_row_id = self._checkpoint.reopen()
        self._hash = Hasher()
        # Versions of the hot table, ascending, and when this process first served each.
        self._served_since: list[tuple[int, datetime]] = []
        self._refreshed_at = time.monotonic()
        self._refresh_failed = RateLimitedWarning(logger, "the replica could not follow the tables")
        self._is_filling = True
        # Whether the checkpoint describes what is served.
        self._is_saved = False
        # Whether every served row is in its indexes.
        self.is_settled = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.snapshot = Snapshot(
            {tier: TierView(tier) for tier in TIERS}, self._keywords.searcher, 0, self.terms, self._hash
        )

    @property
    def folder(self) -> Path:
        """The folder of its cache, which does not exist while it cannot be created."""
        return self._cache.path

    @property
    def cache_reason(self) -> str | None:
        """Why the cache cannot be written, so that everything is served from memory; None while it can."""
        return self._cache.reason

    def start(self) -> None:
        """Start the thread that follows the tables, unless it runs."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and release the cache folder for other processes."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._keywords.close()
        self._cache.release()

    def reached_at(self, version: int) -> datetime | None:
        """When this process first served `version` of the hot table or a later one; None if it does not yet."""
        place = bisect_left(self._served_since, version, key=lambda entry: entry[0])
        return self._served_since[place][1] if place < len(self._served_since) else None

    def silent_seconds(self) -> float:
        """Seconds since the last successful refresh."""
        return time.monotonic() - self._refreshed_at

    def refresh(self) -> None:
        """Publish a snapshot of the newest versions of all tables.

        Raises:
            LakeError: a table could not be read. Its tier is `unavailable` and keeps its rows, the others are up to
                date, and the next call tries again.
        """
        views = dict(self.snapshot.tiers)
        rows_before = self.snapshot.rows
        # As long as nothing is served, every step is published. Later, a row that was rewritten must not be served
        # before its words are indexed.
        self._is_filling = rows_before == 0
        self._renew_cache()
        changed, failure = self._follow_all(views)
        if self._is_filling:
            # Vector search covers all rows from here on, though it is slow until the indexes are built; keyword search
            # does not wait for them.
            self._publish(views)
        self._keywords = update_keywords(
            self._keywords,
            self._tiers.values(),
            self._checkpoint,
            check_stop=self._check_stop,
            on_commit=lambda: self._publish(views) if self._is_filling else None,
        )
        is_large_load = self._row_count() - rows_before > LARGE_LOAD_ROWS
        if is_large_load:
            allocator.trim_heap()
        self._publish(views)
        if changed and views["hot"].version is not None:
            self._record_served(views["hot"].version)
        if self._settle(views) or changed:
            self._is_saved = False
            if is_large_load:
                allocator.trim_heap()
        self._save()
        if failure is not None:
            raise failure
        self.is_settled = True
        self._refreshed_at = time.monotonic()

    def _follow_all(self, views: dict[str, TierView]) -> tuple[bool, LakeError | None]:
        """Load the new rows of every tier and update `views`. Returns whether rows changed, and the last failure."""
        changed, failure = False, self._presence.refresh()
        for name, tier in self._tiers.items():
            try:
                changed = self._follow(tier, views) or changed
            except _Stopping:
                raise
            except Exception as error:  # one table must not stop the other tiers
                if isinstance(error, LakeError):
                    failure = error
                else:
                    logger.exception("a tier could not be followed", extra={"tier": name})
                    failure = StoreUnavailable(self.lake.uri(f"lifecycle/{name}"), f"{type(error).__name__}: {error}")
                tier.follower.forget()
                views[name] = replace(views[name], state=ViewState.UNAVAILABLE, reason=str(failure))
        return changed, failure

    def _follow(self, tier: TierReplica, views: dict[str, TierView]) -> bool:
        """Load the new rows of one tier and update its view. Returns whether there was anything to load."""
        listing, name = tier.poll(), tier.tier
        if listing is None:
            if views[name].version is None:
                reason = f"nothing was written to the {name} table yet"
                views[name] = replace(views[name], state=ViewState.EMPTY, reason=reason)
            return False
        self.is_settled = False
        self._load(tier, listing, views)
        views[name] = replace(
            views[name],
            state=ViewState.READY,
            reason=tier.set_aside.reason,
            version=listing.version,
            watermark=listing.committed_at,
            rows_set_aside=tier.set_aside.row_count,
            rows_unreadable=tier.set_aside.unreadable_rows,
            identities_set_aside=tier.set_aside.identities,
        )
        return True

    def _load(self, tier: TierReplica, listing: Listing, views: dict[str, TierView]) -> None:
        parts = tier.parts_without([path for path in tier.row_ranges if path not in listing.files])
        row_ranges = {path: row_range for path, row_range in tier.row_ranges.items() if path in listing.files}
        for loaded in tier.load(tier.new_files(), self._next_row_id, self._check_stop):
            self._next_row_id = loaded.next_row_id
            row_ranges |= loaded.row_ranges
            if loaded.part is not None:
                parts[loaded.day] = (*parts.get(loaded.day, ()), loaded.part)
            if self._is_filling:
                tier.parts, tier.row_ranges = dict(parts), dict(row_ranges)
                progress = f"{len(row_ranges)} of {len(listing.files)} files loaded"
                views[tier.tier] = replace(views[tier.tier], reason=progress)
                self._publish(views)
        tier.parts, tier.row_ranges = parts, row_ranges

    def _record_served(self, version: int) -> None:
        # A repaired or restored table starts at a lower version again.
        earlier = [entry for entry in self._served_since[-SERVED_VERSIONS:] if entry[0] < version]
        self._served_since = [*earlier, (version, datetime.now(UTC))]

    def _row_count(self) -> int:
        return sum(len(part) for tier in self._tiers.values() for parts in tier.parts.values() for part in parts)

    def _renew_cache(self) -> None:
        """React to a cache folder that was removed, or that can be written again after a failure."""
        was_writable = self._cache.reason is None
        is_new = self._cache.renew()
        if self._cache.reason is None and not was_writable:
            for tier in self._tiers.values():
                tier.set_aside.retry_all()
        can_leave_memory = self._keywords.folder is None and self._cache.reason is None
        if not is_new and not can_leave_memory:
            return
        for tier in self._tiers.values():
            if is_new:
                tier.detach()
            tier.reset_keywords()
        self._keywords.close()
        # The published snapshot keeps the old index until the new one has all rows.
        self._keywords = self._checkpoint.start_empty() if is_new else self._checkpoint.replace_keywords()
        self._is_saved = self.is_settled = False

    def _save(self) -> None:
        """Write the checkpoint if it is outdated. Without a keyword index on disk it would be of no use."""
        if self._is_saved or self._keywords.folder is None:
            return
        with suppress(CacheUnavailable):
            self._checkpoint.write(self._next_row_id)
            self._is_saved = True

    def _settle(self, views: dict[str, TierView]) -> bool:
        """Build indexes and move parts between memory and disk. Returns whether anything changed."""
        changed = [tier.settle(self._check_stop) for tier in self._tiers.values()]
        if any(changed):
            self._publish(views)
        return any(changed)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except _Stopping:
                return
            except LakeError as error:
                self._refresh_failed.warn(str(error))
            except Exception as error:  # the thread must not end: the served rows stay, marked as stale
                logger.exception("the replica failed")
                reason = f"{type(error).__name__}: {error}"
                for tier in self._tiers.values():
                    tier.follower.forget()
                views = self.snapshot.tiers.items()
                self._publish({name: replace(view, state=ViewState.UNAVAILABLE, reason=reason) for name, view in views})
            self._stopping.wait(self.poll_seconds)

    def _publish(self, views: dict[str, TierView]) -> None:
        presence = self._presence.presence
        tiers = current_views(self._tiers, views, presence)
        keyword_rows = sum(tier.keyword_rows for tier in self._tiers.values())
        self.snapshot = Snapshot(tiers, self._keywords.searcher, keyword_rows, self.terms, self._hash, presence)

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise _Stopping

    def _first_hot_day(self) -> date:
        return self.today() - timedelta(days=self.lake.settings.hot_days)

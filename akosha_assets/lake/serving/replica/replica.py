"""The replica: what this process serves, built from the Delta tables alone and kept up to date by their logs.

Any number of processes have one each; none shares a file with another. What it keeps on disk is a cache that a later
process goes on with. How one table is held is in `tier_replica.py`, how a question is answered in `searcher.py`.
"""

import logging
import os
import shutil
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError, StoreUnavailable
from akosha_assets.lake.serving.parts.part import CODED, Categories, RowRange, hide_shadowed
from akosha_assets.lake.serving.replica import allocator, disk_cache
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.replica.loading import Hasher, Loader
from akosha_assets.lake.serving.replica.tier_replica import TierReplica
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.table_log.files import Follower, Listing, LocalFiles
from akosha_assets.lake.serving.text.keyword_index import LARGE_LOAD_ROWS, KeywordIndex
from akosha_assets.lake.telemetry import RateLimitedWarning

logger = logging.getLogger(__name__)

# The order in which tables are looked at: a row that moved is in the colder one before it leaves the hotter one.
TIERS = ("hot", "warm", "cold")
# Versions of the hot table of which it is known since when they are served.
REACHED_KEPT = 5000
# Words are committed in between where more rows than this came in one step.
COMMIT_ROWS = 300_000


class _Stopping(Exception):
    """The process ends; what was begun is left for the next one."""


class Replica:
    """Follows the tier tables. `refresh` does one step; `start` does one every `poll_seconds` in a thread until `stop`."""

    def __init__(
        self,
        lake: Lake,
        *,
        poll_seconds: float = 0.5,
        memory_bytes: int = 1 << 40,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ):
        self.lake, self.poll_seconds, self.today = lake, poll_seconds, today
        cache = lake.settings.home / "cache"
        self.folder, self._lock = disk_cache.acquire_folder(cache / "serving")
        self.terms = {name: Categories() for name in CODED}
        self._tails = {
            tier: TierReplica(
                tier,
                Follower(lake, f"lifecycle/{tier}"),
                Loader(tier, LocalFiles(lake, f"lifecycle/{tier}", cache / "files"), self.terms),
                self.folder / "parts" / tier,
                IndexCache(self.folder / "indexes" / tier),
                self._first_hot_day if tier == "hot" else lambda: date.max,
                memory_bytes,
            )
            for tier in TIERS
        }
        self.layouts = {tier: tail.indexes.layouts for tier, tail in self._tails.items()}
        self._next_number = 1
        self._keyword_sums: dict[str, int] = {}
        self._part_sums: dict[str, dict[str, int]] = {}
        self._keywords = self._reopened()
        self._hash = Hasher()
        self._reached: list[tuple[int, datetime]] = []
        self._looked_at = time.monotonic()
        self._unfollowed = RateLimitedWarning(logger, "the replica could not follow the tables")
        self._is_filling = True
        # Whether all rows that are served have their indexes and words.
        self.is_settled = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.snapshot = Snapshot({tier: TierView(tier) for tier in TIERS}, self._keywords.searcher, 0, self.terms, self._hash)

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
        os.close(self._lock)

    def reached_at(self, version: int) -> datetime | None:
        """When this process first served `version` of the hot table or a later one; None while it does not."""
        at = bisect_left(self._reached, version, key=lambda entry: entry[0])
        return self._reached[at][1] if at < len(self._reached) else None

    def silent_seconds(self) -> float:
        """Seconds since the tables were last looked at with success."""
        return time.monotonic() - self._looked_at

    def refresh(self) -> None:
        """The snapshot shows the newest committed versions.

        Raises:
            LakeError: a table could not be read. It stays as it was and says so, the other tiers go on, and the next call
                tries again.
        """
        failed: LakeError | None = None
        changed = False
        views = dict(self.snapshot.tiers)
        before = self.snapshot.rows
        # Where nothing is served yet, what there is answers at once. Later, rows that were written anew must not be without words.
        self._is_filling = before == 0
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
                        reason=tail.set_aside_reason,
                        version=listing.version,
                        watermark=listing.committed_at,
                        rows_set_aside=tail.rows_set_aside,
                    )
                elif views[tier].version is None:
                    views[tier] = replace(views[tier], state="empty", reason=f"nothing was written to the {tier} table yet")
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
            # Answers by meaning are whole from here on, though slow until the indexes are made: every word is found before that.
            self._publish(views)
        self._index_words(views)
        if rows - before > LARGE_LOAD_ROWS:
            allocator.trim_heap()
        self._publish(views)
        if changed and views["hot"].version is not None:
            self._reached = [*self._reached[-REACHED_KEPT:], (views["hot"].version, datetime.now(UTC))]
        if self._settle(views) or changed:
            if rows - before > LARGE_LOAD_ROWS:
                allocator.trim_heap()
            self._checkpoint()
        if failed is not None:
            raise failed
        self.is_settled = True
        self._looked_at = time.monotonic()

    def _settle(self, views: dict[str, TierView]) -> bool:
        if settled := True in [tail.settle(self._go_on) for tail in self._tails.values()]:
            self._publish(views)
        return settled

    def _index_words(self, views: dict[str, TierView]) -> None:
        """The keyword index holds the rows that are served and no others."""
        waiting = 0
        unknown: dict[tuple[date, str], dict[str, RowRange]] = defaultdict(dict)
        for tier, tail in self._tails.items():
            for path in [path for path in tail.numbered if path not in tail.loads]:
                self._keywords.remove(tail.numbered.pop(path).start)
                tail.without_words.discard(path)
                tail.loader.files.discard(path)
                waiting += 1
            for path, load in tail.loads.items():
                if path not in tail.numbered:
                    unknown[load.day, tier][path] = load
        self._keywords.expect(sum(load.stop - load.start for loads in unknown.values() for load in loads.values()))
        for day, tier in sorted(unknown, reverse=True):
            loads = unknown[day, tier]
            for path, load in loads.items():
                self._go_on()
                self._index_file(self._tails[tier], path, load)
            self._tails[tier].numbered |= loads
            waiting += sum(load.stop - load.start for load in loads.values())
            if waiting > COMMIT_ROWS:
                self._keywords.commit()
                if self._is_filling:
                    self._publish(views)
                waiting = 0
        if waiting:
            self._keywords.commit()
        self._keywords.expect(0)

    def _index_file(self, tail: TierReplica, path: str, load: RowRange) -> None:
        """The rows of a file are in the keyword index with the next commit; where one cannot be, they are found by meaning alone."""
        try:
            for part in tail.parts.get(load.day, ()):
                self._keywords.add(part, load.start, load.stop)
        except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
            logger.exception("the words of a data file are left out", extra={"path": path, "cause": str(error)})
            self._keywords.remove(load.start)
            tail.without_words.add(path)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except _Stopping:
                return
            except LakeError as error:
                self._unfollowed.about(str(error))
            except Exception as error:  # the edge of the thread: what is served goes on, and says that it is old
                logger.exception("the replica failed")
                reason = f"{type(error).__name__}: {error}"
                for tail in self._tails.values():
                    tail.follower.forget()
                self._publish({tier: replace(view, state="unavailable", reason=reason) for tier, view in self.snapshot.tiers.items()})
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
                views[tail.tier] = replace(views[tail.tier], reason=f"{len(loads)} of {len(listing.files)} files loaded")
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
            tiers[tier] = replace(views[tier], parts=parts, refused_vectors=tail.loader.refused_vectors, loads=tail.loads)
            hotter.append(tail)
        with_words = sum(tail.rows_with_words for tail in self._tails.values())
        self.snapshot = Snapshot(tiers, self._keywords.searcher, with_words, self.terms, self._hash)

    def _checkpoint(self) -> None:
        """The state on disk speaks of what is served, and nothing else lies in the folder."""
        parts: dict[str, dict[str, dict[str, Any]]] = {}
        sums: dict[str, dict[str, int]] = {}
        for tier, tail in self._tails.items():
            parts[tier] = {}
            for part in (part for held in tail.parts.values() for part in held if part.folder is not None):
                assert part.folder is not None
                name = str(part.folder)
                sums[name] = self._part_sums.get(name) or disk_cache.checksums(part.folder, {})
                paths = [path for path, load in tail.loads.items() if load.day == part.day and load.is_in(part)]
                parts[tier][part.folder.name] = {"day": part.day.isoformat(), "files": sums[name], "loads": paths}
        self._part_sums = sums
        folder = self.folder / "keywords"
        unchanging = {name: value for name, value in self._keyword_sums.items() if not name.endswith(".json")}
        self._keyword_sums = {name: value for name, value in disk_cache.checksums(folder, unchanging).items() if not name.endswith(".lock")}
        numbered = {
            tier: {path: (load.start, load.stop, load.day.isoformat()) for path, load in tail.numbered.items()}
            for tier, tail in self._tails.items()
        }
        terms = {name: list(held.names) for name, held in self.terms.items()}
        disk_cache.write_state(
            self.folder, disk_cache.CacheState(disk_cache.FORMAT, self._next_number, terms, numbered, parts, self._keyword_sums)
        )
        for tier in TIERS:
            for stale in (self.folder / "parts" / tier).glob("*"):
                if stale.name not in parts[tier]:
                    shutil.rmtree(stale, ignore_errors=True)

    def _reopened(self) -> KeywordIndex:
        """What an earlier process left is taken over, as far as it is sound; returns the keyword index."""
        state, folder = disk_cache.read_state(self.folder), self.folder / "keywords"
        if state is None or not disk_cache.is_sound(folder, state.keywords) or not state.keywords:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            return KeywordIndex(folder, self.terms)
        self._next_number, self._keyword_sums = state.next_number, state.keywords
        for name, names in state.terms.items():
            self.terms[name].learn(names)
        keywords = KeywordIndex(folder, self.terms)
        for tier, tail in self._tails.items():
            tail.numbered = {
                path: RowRange(start, stop, date.fromisoformat(day)) for path, (start, stop, day) in state.numbered[tier].items()
            }
            for name, held in state.parts[tier].items():
                if disk_cache.is_sound(tail.folder / name, held["files"]):
                    part = disk_cache.map_part(tail.folder / name, date.fromisoformat(held["day"]))
                    self._part_sums[str(part.folder)] = held["files"]
                    tail.take_over(part, held["loads"])
                else:
                    # Loaded again under new numbers, so that the numbers of a day's parts ascend.
                    for path in held["loads"]:
                        keywords.remove(tail.numbered.pop(path).start)
        return keywords

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _Stopping

    def _first_hot_day(self) -> date:
        return self.today() - timedelta(days=self.lake.settings.hot_days)

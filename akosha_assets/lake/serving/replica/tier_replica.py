"""The table of one tier in a replica: its data files with their row ids, its days as parts.

Decides which days are in memory and which on disk. `replica.py` publishes, and owns the thread and the other tiers.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from akosha_assets.lake.errors import DataFileUnreadable
from akosha_assets.lake.serving.parts.part import Part, RowRange, compact_parts, concatenate_parts, hide_shadowed
from akosha_assets.lake.serving.parts.source_presence import SourcePresence
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.replica.loading import Loader
from akosha_assets.lake.serving.replica.set_aside import SetAside
from akosha_assets.lake.serving.snapshot import TierView
from akosha_assets.lake.serving.table_log.files import DataFile, Follower, Listing
from akosha_assets.lake.serving.vectors.nearest import threads

# A day with more parts is merged into one part on disk.
DISK_PARTS = 8
# Days that are read ahead of the one that is added.
AHEAD_DAYS = 1


class LoadedDay(NamedTuple):
    """The rows of new data files of one day: a part, None if no row can be served, and the row ids of each file."""

    day: date
    part: Part | None
    row_ranges: dict[str, RowRange]
    next_row_id: int


@dataclass
class TierReplica:
    """Follows one table. `row_ranges` has the files whose rows are in `parts`; `indexed` those in the keyword index.

    `set_aside` has the files and rows that cannot be served, `unindexed_rows` how many rows of a file cannot be
    indexed.
    """

    tier: str
    follower: Follower
    loader: Loader
    cache: CacheFolder
    indexes: IndexCache
    first_in_memory: Callable[[], date]
    memory_bytes: int
    row_ranges: dict[str, RowRange] = field(default_factory=dict)
    indexed: dict[str, RowRange] = field(default_factory=dict)
    parts: dict[date, tuple[Part, ...]] = field(default_factory=dict)
    listing: Listing | None = None
    set_aside: SetAside = field(default_factory=SetAside)
    unindexed_rows: dict[str, int] = field(default_factory=dict)
    _unwritten_bytes: int = 0

    @property
    def folder(self) -> Path:
        """The folder of its parts on disk."""
        return self.cache.path / "parts" / self.tier

    @property
    def keyword_rows(self) -> int:
        """Served rows that are in the keyword index."""
        rows = 0
        for path, row_range in self.row_ranges.items():
            if path in self.indexed:
                skipped = self.set_aside.rows_of(path) + self.unindexed_rows.get(path, 0)
                rows += row_range.stop - row_range.start - skipped
        return rows

    def poll(self) -> Listing | None:
        """The files to serve, if they changed or a file that was set aside is due; else None.

        Raises as `Follower.poll`.
        """
        newest = self.follower.poll()
        if newest is not None:
            newest = replace(
                newest, files={path: self.loader.with_row_count(file) for path, file in newest.files.items()}
            )
            self.listing = newest
            self.set_aside.retain(newest.files)
            return newest
        return self.listing if self.set_aside.is_due else None

    def new_files(self) -> dict[date, list[DataFile]]:
        """Files of the listing that are not served, by day, without those that are set aside and not due."""
        assert self.listing is not None
        return self.listing.new_files({*self.row_ranges, *self.set_aside.waiting})

    def adopt(self, part: Part, paths: list[str]) -> None:
        """Serve a part that an earlier process wrote, with the rows of the files at `paths`."""
        self.parts[part.day] = tuple(
            sorted((*self.parts.get(part.day, ()), part), key=lambda part: int(part.row_ids[0]))
        )
        self.row_ranges |= {path: self.indexed[path] for path in paths}
        self.indexes.register(part)

    def reset_keywords(self) -> None:
        """The keyword index was replaced by an empty one."""
        self.indexed, self.unindexed_rows = {}, {}

    def detach(self) -> None:
        """The cache folder was removed: parts are served from the pages they mapped, and `settle` writes them again."""
        self.parts = {
            day: tuple(part if part.folder is None else replace(part, folder=None) for part in parts)
            for day, parts in self.parts.items()
        }

    def parts_without(self, paths: list[str]) -> dict[date, tuple[Part, ...]]:
        """The parts by day, without the rows of the files at `paths`."""
        parts = dict(self.parts)
        ranges = defaultdict(list)
        for path in paths:
            ranges[self.row_ranges[path].day].append((self.row_ranges[path].start, self.row_ranges[path].stop))
        for day, removed in ranges.items():
            remaining = []
            for part in parts.get(day, ()):
                keep = np.ones(len(part), bool)
                for start, stop in removed:
                    keep[np.searchsorted(part.row_ids, start) : np.searchsorted(part.row_ids, stop)] = False
                if keep.all():
                    remaining.append(part)
                elif keep.any():
                    smaller = part.filter(keep)
                    remaining.append(smaller if part.folder is None else self._write(smaller))
            parts[day] = tuple(remaining)
        return {day: of_day for day, of_day in parts.items() if of_day}

    def load(
        self, added: dict[date, list[DataFile]], next_row_id: int, check_stop: Callable[[], None]
    ) -> Iterator[LoadedDay]:
        """Load the files of `added`, newest day first; row ids start at `next_row_id`.

        Reads one day ahead and no more, so that a year of history is never in memory at once.
        """
        expected = sum(file.rows for files in added.values() for file in files)
        self.indexes.quantizers.expect(
            expected + sum(row_range.stop - row_range.start for row_range in self.row_ranges.values())
        )
        self._unwritten_bytes = 0
        pending: deque[tuple[LoadedDay, Future[Part | None]]] = deque()
        # Not the pool of `nearest`, which is for searches.
        with ThreadPoolExecutor(1 + AHEAD_DAYS, "loading") as readers:
            for day in sorted(added, reverse=True):
                check_stop()
                row_ranges, next_row_id = self._assign_row_ids(day, added[day], next_row_id)
                files = sorted(added[day], key=lambda file: row_ranges[file.path].start)
                reading = readers.submit(self._read, day, files, row_ranges)
                pending.append((LoadedDay(day, None, row_ranges, next_row_id), reading))
                if len(pending) > AHEAD_DAYS:
                    yield self._place(*pending.popleft())
            while pending:
                yield self._place(*pending.popleft())

    def _place(self, loaded: LoadedDay, reading: Future[Part | None]) -> LoadedDay:
        """The day with its part, which is written to disk if it does not fit into memory."""
        part = reading.result()
        row_ranges = {path: each for path, each in loaded.row_ranges.items() if path not in self.set_aside.files}
        if part is not None and not self._fits(loaded.day, part):
            part = self._write(part)
            if part.folder is None and not self._has_memory(part):
                # Neither disk nor memory has room: the files of this day wait, and the tier reports them.
                for path, row_range in row_ranges.items():
                    reason = self.cache.reason or "no memory is left"
                    self.set_aside.add_file(path, row_range.stop - row_range.start, reason)
                part, row_ranges = None, {}
        return loaded._replace(part=part, row_ranges=row_ranges)

    def _has_memory(self, part: Part) -> bool:
        """Whether a part that could not be written fits into memory beside the others."""
        in_memory = sum(each.nbytes for parts in self.parts.values() for each in parts if each.folder is None)
        self._unwritten_bytes += part.nbytes
        if in_memory + self._unwritten_bytes <= self.memory_bytes:
            return True
        self._unwritten_bytes -= part.nbytes
        return False

    def _read(self, day: date, files: list[DataFile], row_ranges: dict[str, RowRange]) -> Part | None:
        """The rows of `files`, which are in the order of their row ids. Files that cannot be read are set aside."""
        try:
            part, left_out = self.loader.load(day, files, [row_ranges[file.path].start for file in files])
        except DataFileUnreadable as error:
            if len(files) > 1:
                parts = [part for file in files if (part := self._read(day, [file], row_ranges)) is not None]
                return concatenate_parts(parts) if parts else None
            (file,) = files
            self.set_aside.add_file(file.path, file.rows, str(error))
            return None
        self.set_aside.replace_served([file.path for file in files], left_out)
        return part

    def _assign_row_ids(self, day: date, files: list[DataFile], next_row_id: int) -> tuple[dict[str, RowRange], int]:
        """The row ids of each file, the same as before if it is in the keyword index, and the next free row id."""
        row_ranges = {}
        for file in files:
            known = self.indexed.get(file.path)
            if known is None or known.stop - known.start != file.rows:
                known = RowRange(next_row_id, next_row_id + file.rows, day)
                next_row_id = known.stop
            row_ranges[file.path] = known
        return row_ranges, next_row_id

    def settle(self, check_stop: Callable[[], None]) -> bool:
        """Merge the parts of each day, build their indexes, and move days that do not fit into memory to disk.

        Returns whether anything changed. Searches under way keep their parts. Calls `check_stop`, which may raise,
        between long steps.
        """
        before = self.parts
        self.parts = {}
        for day in sorted(before, reverse=True):
            held = before[day]
            if all(part.folder is None for part in held) and self._fits(day, *held):
                self.parts[day] = compact_parts(held)
                continue
            fresh = [part for part in held if part.folder is None]
            on_disk = [part for part in held if part.folder is not None]
            if self.cache.reason is not None:
                self.parts[day] = (*on_disk, *compact_parts(tuple(fresh)))
                continue
            if len(held) > DISK_PARTS:
                fresh, on_disk = list(held), []
            self.parts[day] = (*on_disk, *([self._write(concatenate_parts(fresh))] if fresh else []))

        def build(part: Part) -> Part:
            check_stop()
            indexed = self.indexes.with_indexes(part)
            with suppress(CacheUnavailable), self.cache.writing():
                return disk_cache.move_payload_to_file(indexed, self.folder)
            return indexed

        memory = [(day, part) for day, held in self.parts.items() for part in held if part.folder is None]
        built = self.indexes.merge(list(threads().map(build, [part for _, part in memory])))
        ready = dict(zip((id(part) for _, part in memory), built, strict=True))
        self.parts = {day: tuple(ready.get(id(part), part) for part in held) for day, held in self.parts.items()}
        changed = any(not _same(self.parts[day], held) for day, held in before.items())
        if changed:
            self.indexes.remove_stale(part for held in self.parts.values() for part in held)
        return changed

    def _write(self, part: Part) -> Part:
        """The part backed by files, or unchanged while the cache cannot be written."""
        with suppress(CacheUnavailable), self.cache.writing():
            return disk_cache.write_part(part, self.folder, self.indexes.quantizers)
        return part

    def _fits(self, day: date, *parts: Part) -> bool:
        """Whether parts of `day` fit into memory beside the newer days."""
        newer = sum(
            part.nbytes for other, held in self.parts.items() if other > day for part in held if part.folder is None
        )
        return day >= self.first_in_memory() and newer + sum(part.nbytes for part in parts) <= self.memory_bytes


def _same(some: tuple[Part, ...], others: tuple[Part, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def current_views(
    tiers: Mapping[str, TierReplica], views: Mapping[str, TierView], presence: SourcePresence
) -> dict[str, TierView]:
    """The views, hottest first, with the present parts and the absences of `presence`. Rows that a hotter tier has in a
    newer version are hidden.
    """
    hotter: list[TierReplica] = []
    current = {}
    for name, tier in tiers.items():
        for day in list(tier.parts):
            hotter_parts = tuple(part for other in hotter for part in other.parts.get(day, ()))
            if hotter_parts or any(part.hidden is not None for part in tier.parts[day]):
                tier.parts[day] = hide_shadowed(tier.parts[day], hotter_parts)
            tier.parts[day] = tuple(part.with_presence(presence) for part in tier.parts[day])
        current[name] = replace(
            views[name],
            parts=tuple(part for day in sorted(tier.parts, reverse=True) for part in tier.parts[day]),
            refused_vectors=tier.loader.refused_vectors,
            row_ranges=tier.row_ranges,
        )
        hotter.append(tier)
    return current

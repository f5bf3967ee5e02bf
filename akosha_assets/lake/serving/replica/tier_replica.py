"""One tier's table as a replica holds it: its files under their numbers, its days as parts.

Decides which days lie in memory and which on disk. Publishing, threads and the other tiers are `replica.py`'s.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np

from akosha_assets.lake.errors import DataFileUnreadable
from akosha_assets.lake.serving.parts.part import Part, RowRange, compact_parts, concatenate_parts
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.replica.loading import Loader
from akosha_assets.lake.serving.replica.set_aside import SetAside
from akosha_assets.lake.serving.table_log.files import DataFile, Follower, Listing
from akosha_assets.lake.serving.vectors.nearest import threads

DISK_PARTS = 8
# Days that are read while another is taken.
AHEAD_DAYS = 1


@dataclass
class TierReplica:
    """Follows one table. `loads` are the files whose rows are in `parts`; `numbered` those in the keyword index.

    Files that cannot be read are in `set_aside` and tried again later; those of `without_words` could not be indexed.
    """

    tier: str
    follower: Follower
    loader: Loader
    cache: CacheFolder
    indexes: IndexCache
    first_in_memory: Callable[[], date]
    memory_bytes: int
    loads: dict[str, RowRange] = field(default_factory=dict)
    numbered: dict[str, RowRange] = field(default_factory=dict)
    parts: dict[date, tuple[Part, ...]] = field(default_factory=dict)
    listing: Listing | None = None
    set_aside: SetAside = field(default_factory=SetAside)
    without_words: dict[str, int] = field(default_factory=dict)
    _unwritten_bytes: int = 0

    @property
    def folder(self) -> Path:
        """Where its parts on disk lie."""
        return self.cache.path / "parts" / self.tier

    @property
    def rows_with_words(self) -> int:
        """Rows that are served and in the keyword index."""
        rows = 0
        for path, load in self.loads.items():
            if path in self.numbered:
                skipped = self.set_aside.rows_of(path) + self.without_words.get(path, 0)
                rows += load.stop - load.start - skipped
        return rows

    def poll(self) -> Listing | None:
        """The files to serve where they changed, or where one that was set aside is to be tried again. Raises as
        `Follower.poll`.
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

    def missing(self) -> dict[date, list[DataFile]]:
        """Files of the listing that are not served, by day, without those set aside that are not due."""
        assert self.listing is not None
        return self.listing.new_files({*self.loads, *self.set_aside.waiting})

    def take_over(self, part: Part, paths: list[str]) -> None:
        """A part on disk, which an earlier process left, with the rows of these files is served."""
        self.parts[part.day] = tuple(
            sorted((*self.parts.get(part.day, ()), part), key=lambda part: int(part.row_ids[0]))
        )
        self.loads |= {path: self.numbered[path] for path in paths}
        self.indexes.meet(part)

    def forget_words(self) -> None:
        """The keyword index holds no row of this tier."""
        self.numbered, self.without_words = {}, {}

    def detach(self) -> None:
        """The folder of the cache is gone: parts are served from the bytes that they mapped, and written again when
        `settle` can.
        """
        self.parts = {
            day: tuple(part if part.folder is None else replace(part, folder=None) for part in parts)
            for day, parts in self.parts.items()
        }

    def without(self, paths: list[str]) -> dict[date, tuple[Part, ...]]:
        """The parts when the rows of `paths` are gone."""
        parts = dict(self.parts)
        ranges = defaultdict(list)
        for path in paths:
            ranges[self.loads[path].day].append((self.loads[path].start, self.loads[path].stop))
        for day, gone in ranges.items():
            left = []
            for part in parts.get(day, ()):
                keep = np.ones(len(part), bool)
                for start, stop in gone:
                    keep[np.searchsorted(part.row_ids, start) : np.searchsorted(part.row_ids, stop)] = False
                if keep.all():
                    left.append(part)
                elif keep.any():
                    smaller = part.filter(keep)
                    left.append(smaller if part.folder is None else self._write(smaller))
            parts[day] = tuple(left)
        return {day: held for day, held in parts.items() if held}

    def load(
        self, added: dict[date, list[DataFile]], next_number: int, go_on: Callable[[], None]
    ) -> Iterator[tuple[date, Part | None, dict[str, RowRange], int]]:
        """For each day of `added`, newest first: a part of the rows of its files, their numbers, and the next free
        number.

        The next day is read while one is taken, no more: a year of history must not be in memory together.
        """
        expected = sum(file.rows for files in added.values() for file in files)
        self.indexes.quantizers.expect(expected + sum(load.stop - load.start for load in self.loads.values()))
        self._unwritten_bytes = 0
        under_way: deque[tuple[date, dict[str, RowRange], int, Future[Part | None]]] = deque()
        # Threads of its own: those that scan are for questions.
        with ThreadPoolExecutor(1 + AHEAD_DAYS, "loading") as readers:
            for day in sorted(added, reverse=True):
                go_on()
                loads, next_number = self._numbered(day, added[day], next_number)
                files = sorted(added[day], key=lambda file: loads[file.path].start)
                loading = readers.submit(self._read, day, files, loads)
                under_way.append((day, loads, next_number, loading))
                if len(under_way) > AHEAD_DAYS:
                    yield self._taken(*under_way.popleft())
            while under_way:
                yield self._taken(*under_way.popleft())

    def _taken(
        self, day: date, loads: dict[str, RowRange], next_number: int, loading: Future[Part | None]
    ) -> tuple[date, Part | None, dict[str, RowRange], int]:
        """What was read, on disk at once where it does not fit into memory."""
        part = loading.result()
        loads = {path: load for path, load in loads.items() if path not in self.set_aside.files}
        if part is not None and not self._fits(day, part):
            part = self._write(part)
            if part.folder is None and not self._has_memory(part):
                # Neither disk nor memory has room: the files of this day wait, and the tier says why.
                for path, load in loads.items():
                    self.set_aside.add_file(path, load.stop - load.start, self.cache.reason or "no memory is left")
                return day, None, {}, next_number
        return day, part, loads, next_number

    def _has_memory(self, part: Part) -> bool:
        """Whether a part that could not be written may lie in memory beside the others."""
        in_memory = sum(each.nbytes for parts in self.parts.values() for each in parts if each.folder is None)
        self._unwritten_bytes += part.nbytes
        if in_memory + self._unwritten_bytes <= self.memory_bytes:
            return True
        self._unwritten_bytes -= part.nbytes
        return False

    def _read(self, day: date, files: list[DataFile], loads: dict[str, RowRange]) -> Part | None:
        """The rows of `files`, which ascend by their numbers. One that cannot be read is set aside, and the others are
        read without it.
        """
        try:
            part, left_out = self.loader.load(day, files, [loads[file.path].start for file in files])
        except DataFileUnreadable as error:
            if len(files) > 1:
                parts = [part for file in files if (part := self._read(day, [file], loads)) is not None]
                return concatenate_parts(parts) if parts else None
            (file,) = files
            self.set_aside.add_file(file.path, file.rows, str(error))
            return None
        self.set_aside.replace_served([file.path for file in files], left_out)
        return part

    def _numbered(self, day: date, files: list[DataFile], next_number: int) -> tuple[dict[str, RowRange], int]:
        """The numbers of each file, those that it had before where it was known, and the next free number."""
        loads = {}
        for file in files:
            known = self.numbered.get(file.path)
            if known is None or known.stop - known.start != file.rows:
                known = RowRange(next_number, next_number + file.rows, day)
                next_number = known.stop
            loads[file.path] = known
        return loads, next_number

    def settle(self, go_on: Callable[[], None]) -> bool:
        """Few parts a day, with indexes; days that may not lie in memory (any longer) lie on disk.

        Returns whether anything changed. Searches go on with the parts they hold. `go_on` is called between long steps
        and may raise.
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
            go_on()
            indexed = self.indexes.indexed(part)
            with suppress(CacheUnavailable), self.cache.writing():
                return disk_cache.move_payload_to_file(indexed, self.folder)
            return indexed

        memory = [(day, part) for day, held in self.parts.items() for part in held if part.folder is None]
        built = self.indexes.together(list(threads().map(build, [part for _, part in memory])))
        ready = dict(zip((id(part) for _, part in memory), built, strict=True))
        self.parts = {day: tuple(ready.get(id(part), part) for part in held) for day, held in self.parts.items()}
        changed = any(not _same(self.parts[day], held) for day, held in before.items())
        if changed:
            self.indexes.tidy(part for held in self.parts.values() for part in held)
        return changed

    def _write(self, part: Part) -> Part:
        """The part with its bytes on disk, or as it is while the cache cannot be written."""
        with suppress(CacheUnavailable), self.cache.writing():
            return disk_cache.write_part(part, self.folder, self.indexes.quantizers)
        return part

    def _fits(self, day: date, *parts: Part) -> bool:
        """Whether the parts of `day` may lie in memory beside the newer days that do."""
        newer = sum(
            part.nbytes for other, held in self.parts.items() if other > day for part in held if part.folder is None
        )
        return day >= self.first_in_memory() and newer + sum(part.nbytes for part in parts) <= self.memory_bytes


def _same(some: tuple[Part, ...], others: tuple[Part, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))

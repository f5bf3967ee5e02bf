"""The replica: what this process serves, built from the Delta tables alone and kept up to date by their logs.

Any number of processes have one each; none shares a file with another. A search takes the snapshot of one instant and
is never disturbed by what the replica does next. How a question is answered from it is in `search.py`.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.serving.files import Follower, Listing, LocalFiles
from akosha_assets.lake.serving.keywords import KeywordIndex, KeywordSearcher
from akosha_assets.lake.serving.loading import Loader, connect, laid_down
from akosha_assets.lake.serving.parts import CODED, Part, Terms, join, tidied
from akosha_assets.lake.serving.query import Identity

logger = logging.getLogger(__name__)

DISK_PARTS = 8


@dataclass(frozen=True)
class TierView:
    """One tier at one instant. `state` is empty (no table), loading, ready or unavailable; `why` says more."""

    name: str
    state: str = "loading"
    why: str | None = None
    version: int | None = None
    watermark: datetime | None = None
    parts: tuple[Part, ...] = ()
    refused_vectors: int = 0

    @property
    def rows(self) -> int:
        """Rows that can be found."""
        return sum(len(part) for part in self.parts)

    @property
    def days_on_disk(self) -> list[date]:
        """Days answered from disk, oldest first."""
        return sorted({part.day for part in self.parts if part.residence == "disk"})


@dataclass(frozen=True)
class Snapshot:
    """Everything a search needs, at one instant."""

    tiers: dict[str, TierView]
    keywords: KeywordSearcher
    keyword_rows: int
    terms: dict[str, Terms]
    hashed: Callable[[Identity], int]

    @property
    def rows(self) -> int:
        """Rows of all tiers."""
        return sum(tier.rows for tier in self.tiers.values())

    def dimensions(self) -> dict[str, int]:
        """Vector length of each space that has vectors."""
        return {space: held.dimensions for tier in self.tiers.values() for part in tier.parts for space, held in part.vectors.items()}

    def row_of_number(self, number: int) -> tuple[str, Part, int] | None:
        """Tier, part and row that a number means, or None where it is no longer served."""
        for name, tier in self.tiers.items():
            for part in tier.parts:
                if part.numbers[0] <= number <= part.numbers[-1] and (row := part.row_of_number(number)) is not None:
                    return name, part, row
        return None

    def find(self, identity: Identity) -> tuple[str, Part, int] | None:
        """Tier, part and row of a memory, from the hottest tier that has it."""
        hashed = self.hashed(identity)
        for name, tier in self.tiers.items():
            for part in reversed(tier.parts):
                for row in part.rows_of(hashed):
                    if part.payload["id"][int(row)].as_py() == identity.id:
                        return name, part, int(row)
        return None


@dataclass
class _Tail:
    """What is known of one table: its follower, which files are loaded under which numbers, the parts of each day."""

    name: str
    follower: Follower
    loader: Loader
    loads: dict[str, tuple[int, int, date]] = field(default_factory=dict)
    parts: dict[date, tuple[Part, ...]] = field(default_factory=dict)


class Replica:
    """Follows the tier tables. `refresh` does one step; `start` does one every `poll_seconds` in a thread until `stop`."""

    def __init__(self, lake: Lake, *, poll_seconds: float = 0.5, today: Callable[[], date] = lambda: datetime.now(UTC).date()):
        self.lake, self.poll_seconds, self.today = lake, poll_seconds, today
        self.folder, self._lock = _own_folder(lake.settings.home / "cache" / "serving")
        self.terms = {name: Terms() for name in CODED}
        files = LocalFiles(lake, "lifecycle/hot", lake.settings.home / "cache" / "files")
        self._hot = _Tail("hot", Follower(lake, "lifecycle/hot"), Loader(files, self.terms))
        self._keywords = KeywordIndex(self.folder / "keywords")
        self._next_number = 1
        self._hashing = connect()
        self._reached: list[tuple[int, datetime]] = []
        self._looked_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.snapshot = Snapshot({"hot": TierView("hot")}, self._keywords.searcher, 0, self.terms, self._hash)

    def start(self) -> None:
        """The thread that follows the tables runs."""
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended and the cache folder is free for another process."""
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
        """The snapshot shows the newest committed version.

        Raises:
            LakeError: the table could not be read; the snapshot stays as it was, the next call tries again.
        """
        try:
            self._follow(self._hot.follower.poll())
            self._looked_at = time.monotonic()
        except LakeError as error:
            self._hot.follower.forget()
            self._publish(state="unavailable", why=str(error))
            raise

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except LakeError as error:
                logger.warning("the replica could not follow the tables", extra={"cause": str(error)})
            except Exception as error:  # the edge of the thread: what is served goes on, and says that it is old
                logger.exception("the replica failed")
                self._hot.follower.forget()
                self._publish(state="unavailable", why=f"{type(error).__name__}: {error}")
            self._stopping.wait(self.poll_seconds)

    def _follow(self, listing: Listing | None) -> None:
        view = self.snapshot.tiers["hot"]
        if listing is None:
            if view.version is None:
                self._publish(state="empty", why="nothing was written to the hot table yet")
            self._cool()
            return
        removed = [path for path in self._hot.loads if path not in listing.files]
        added = defaultdict(list)
        for path, file in listing.files.items():
            if path not in self._hot.loads:
                added[file.day].append(file)
        is_first = view.version is None
        parts = self._without(removed)
        fresh: list[tuple[Part, np.ndarray]] = []
        loads: dict[str, tuple[int, int, date]] = {}
        for day in sorted(added, reverse=True):
            files = added[day]
            starts = self._next_number + np.cumsum([0] + [file.rows for file in files])
            part = self._hot.loader.load(day, files, self._next_number)
            loads |= {file.path: (int(a), int(b), day) for file, a, b in zip(files, starts, starts[1:], strict=False)}
            self._next_number = int(starts[-1])
            if part is not None:
                part = self._settled(part)
                parts[day] = self._shortened((*parts.get(day, ()), part))
                fresh.append((part, starts[:-1]))
            if is_first:
                # Vectors answer while the words of the first load are still being indexed.
                self._hot.parts = dict(parts)
                self._publish(state="loading", why=f"{len(loads)} of {len(listing.files)} files loaded")
        for path in removed:
            self._keywords.remove(self._hot.loads.pop(path)[0])
            self._hot.loader.files.discard(path)
        self._hot.loads |= loads
        for part, starts in fresh:
            self._keywords.add(part, self.terms, starts)
        if fresh or removed:
            self._keywords.commit()
        self._hot.parts = parts
        self._reached.append((listing.version, datetime.now(UTC)))
        self._publish(state="ready", why=None, version=listing.version, watermark=listing.committed_at)

    def _without(self, paths: list[str]) -> dict[date, tuple[Part, ...]]:
        parts = dict(self._hot.parts)
        ranges = defaultdict(list)
        for path in paths:
            start, stop, day = self._hot.loads[path]
            ranges[day].append((start, stop))
        for day, gone in ranges.items():
            left = []
            for part in parts.get(day, ()):
                keep = np.ones(len(part), bool)
                for start, stop in gone:
                    keep[np.searchsorted(part.numbers, start) : np.searchsorted(part.numbers, stop)] = False
                if keep.all():
                    left.append(part)
                elif keep.any():
                    left.append(self._settled(replace(part.kept(keep), residence="memory")))
            parts[day] = tuple(left)
        return {day: held for day, held in parts.items() if held}

    def _settled(self, part: Part) -> Part:
        """The part in memory while its day is inside the hot window, else on disk."""
        first = self.today() - timedelta(days=self.lake.settings.hot_days)
        if part.day >= first or part.residence == "disk":
            return part
        return laid_down(part, self.folder / "days")

    def _shortened(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        if all(part.residence == "memory" for part in parts):
            return tidied(parts)
        return parts if len(parts) <= DISK_PARTS else (self._settled(replace(join(list(parts)), residence="memory")),)

    def _cool(self) -> None:
        """Days that left the hot window since the last step are laid down on disk."""
        first = self.today() - timedelta(days=self.lake.settings.hot_days)
        due = [day for day, held in self._hot.parts.items() if day < first and any(part.residence == "memory" for part in held)]
        if due:
            self._hot.parts |= {day: tuple(self._settled(part) for part in self._hot.parts[day]) for day in due}
            self._publish()

    def _publish(self, **changes: Any) -> None:
        parts = tuple(part for day in sorted(self._hot.parts, reverse=True) for part in self._hot.parts[day])
        view = replace(self.snapshot.tiers["hot"], parts=parts, refused_vectors=self._hot.loader.refused_vectors, **changes)
        self.snapshot = Snapshot({"hot": view}, self._keywords.searcher, self._keywords.searcher.searcher.num_docs, self.terms, self._hash)

    def _hash(self, identity: Identity) -> int:
        with self._hashing.cursor() as cursor:
            row = cursor.execute("SELECT hash(?, ?, ?)", [identity.system_id, identity.kind, identity.id]).fetchone()
        assert row is not None
        return int(row[0])


def _own_folder(root: Path) -> tuple[Path, int]:
    """A folder that no other live process uses, emptied, and the lock that keeps it ours."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        lock = os.open(root / f"{number}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        folder = root / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder, lock
    raise RuntimeError(f"a thousand processes use {root}; expected fewer, or another AKOSHA_HOME")

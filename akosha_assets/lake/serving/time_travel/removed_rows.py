"""An LRU cache of rows that were removed from the hot and warm tables, for questions about earlier versions.

Rows are loaded when a question first needs them and kept on disk. `snapshots.py` decides which rows a version had.
"""

import shutil
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import Categories, Part, RowRange
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.replica.loading import Loader
from akosha_assets.lake.serving.table_log.files import DataFile, LocalFiles
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex, KeywordSearcher
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers

# Row ids begin here, far above those of the replica.
FIRST_ROW_ID = 1 << 60
# Each cached file takes a dozen open files and mappings, and a table that changes every second removes thousands.
MAX_FILES = 64

# Tier and path of a data file.
Key = tuple[str, str]


@dataclass
class _RemovedFile:
    """A data file that was removed from its table, and those of its rows that are cached."""

    # The row ids of all its rows.
    row_range: RowRange
    # The hash of each row as in `Part.written`.
    written: np.ndarray  # (rows,) uint64
    # The rows that `part` has.
    is_cached: np.ndarray  # (rows,) bool
    # All rows, until the file was loaded and some of them were set aside.
    is_servable: np.ndarray  # (rows,) bool
    part: Part | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory and on disk."""
        return self.written.nbytes + self.is_cached.nbytes + (0 if self.part is None else self.part.nbytes)


class RemovedRows:
    """Rows of removed files: at most `max_bytes`, most of them on disk, from at most `max_files` or all `pinned` files.

    Only one thread at a time may use it; any thread may use what it returns.
    """

    def __init__(
        self,
        lake: Lake,
        folder: Path,
        terms: dict[str, Categories],
        quantizers: dict[str, CoarseQuantizers],
        *,
        max_bytes: int,
        max_files: int,
    ):
        self.max_bytes, self.max_files = max_bytes, max_files
        # The files of the question under way, which are not evicted.
        self.pinned: Collection[Key] = ()
        files = {
            tier: LocalFiles(lake, f"lifecycle/{tier}", lake.settings.home / "cache" / "files") for tier in quantizers
        }
        self._loaders = {tier: Loader(tier, files[tier], terms) for tier in quantizers}
        self._folder, self._terms, self._quantizers = folder, terms, quantizers
        shutil.rmtree(folder, ignore_errors=True)
        self._files: OrderedDict[Key, _RemovedFile] = OrderedDict()
        self._keywords: KeywordIndex | None = None
        self._is_uncommitted = False
        self._next_row_id = FIRST_ROW_ID

    def written(self, tier: str, file: DataFile) -> np.ndarray:
        """(rows,) uint64: the hash of each row of a file, as in `Part.written`. Raises as `Loader.written`."""
        return self._file(tier, file).written

    def removed(self, tier: str, file: DataFile, present: np.ndarray) -> Part | None:
        """The rows of a file whose hash is not in `present`, (n,) uint64, the hashes of the table today; None if all
        are.

        Raises:
            InvalidRequest: the rows of this question exceed `max_bytes`.
            StoreUnavailable: the file could not be read.
        """
        cached = self._file(tier, file)
        is_removed = cached.is_servable & ~np.isin(cached.written, present)
        loader = self._loaders[tier]
        if (is_removed & ~cached.is_cached).any():
            loaded = loader.load(file.day, [file], [cached.row_range.start]).part
            cached.is_servable = np.zeros(file.rows, bool)
            if loaded is not None:
                cached.is_servable[loaded.row_ids - cached.row_range.start] = True
                keep = cached.is_servable & (is_removed | cached.is_cached)
                rows = loaded.filter(keep[cached.is_servable])
                part = disk_cache.write_part(rows, self._folder / "parts" / tier, self._quantizers[tier])
                if cached.part is not None:
                    self._discard(cached.row_range, cached.part)
                cached.part, cached.is_cached = part, keep
                self._open_index().add(part, cached.row_range.start, cached.row_range.stop)
            is_removed &= cached.is_servable
        loader.files.discard(file.path)
        self._evict()
        if cached.part is None or not is_removed.any():
            return None
        return cached.part.with_hidden(~is_removed[cached.is_cached])

    @property
    def keywords(self) -> KeywordSearcher | None:
        """A searcher over the cached rows of the pinned files; None if no row was ever cached."""
        if self._keywords is None:
            return None
        if self._is_uncommitted:
            self._keywords.commit()
            self._is_uncommitted = False
        others = tuple(file.row_range.start for key, file in self._files.items() if key not in self.pinned)
        return replace(self._keywords.searcher, without=others)

    def close(self) -> None:
        """Closes the keyword index."""
        if self._keywords is not None:
            self._keywords.close()

    def _file(self, tier: str, file: DataFile) -> _RemovedFile:
        """The entry of a file, which has at least the hashes of its rows, as the most recently used one."""
        key = tier, file.path
        if key not in self._files:
            written = self._loaders[tier].written(file)
            row_range = RowRange(self._next_row_id, self._next_row_id + file.rows, file.day)
            self._next_row_id = row_range.stop
            self._files[key] = _RemovedFile(row_range, written, np.zeros(file.rows, bool), np.ones(file.rows, bool))
        self._files.move_to_end(key)
        return self._files[key]

    def _open_index(self) -> KeywordIndex:
        """The keyword index, which is about to change."""
        self._is_uncommitted = True
        if self._keywords is None:
            self._keywords = KeywordIndex(self._folder / "keywords", self._terms)
        return self._keywords

    def _evict(self) -> None:
        """Evicts the least recently used files that are not pinned until the cache fits its limits."""
        nbytes = sum(file.nbytes for file in self._files.values())
        for key in [key for key in self._files if key not in self.pinned]:
            if nbytes <= self.max_bytes and len(self._files) <= self.max_files:
                return
            file = self._files.pop(key)
            nbytes -= file.nbytes
            if file.part is not None:
                self._discard(file.row_range, file.part)
        if nbytes > self.max_bytes:
            raise InvalidRequest(
                "as_of",
                f"the rows that were removed from the tables since then have {nbytes} bytes or more; "
                f"expected at most {self.max_bytes} (AKOSHA_API_AS_OF_BYTES): ask for a later time",
            )

    def _discard(self, row_range: RowRange, part: Part) -> None:
        """Removes the rows from the index and the disk. Searches that use the part keep its mapped bytes."""
        self._open_index().remove(row_range.start)
        if part.folder is not None:
            shutil.rmtree(part.folder, ignore_errors=True)

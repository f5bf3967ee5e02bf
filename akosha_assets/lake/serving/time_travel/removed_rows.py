"""Rows that left the hot and warm tables, for questions about earlier versions: loaded when first asked for, on disk,
and forgotten when others need the room.

Which rows an earlier version had is `snapshots.py`'s to say.
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

# Row numbers begin here, far above those that the replica gives.
FIRST_NUMBER = 1 << 60
# Rows are a dozen open files and mappings for each file that they were in; a table that changes every second leaves
# thousands.
MAX_FILES = 64

# Tier and path of a data file.
Key = tuple[str, str]


@dataclass
class _RemovedFile:
    """A file that left its table: what says of each of its rows how it was written, and those rows, under their own
    numbers, that the table did not have any more when they were asked for.
    """

    load: RowRange
    written: np.ndarray
    held: np.ndarray
    part: Part | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory and on disk."""
        return self.written.nbytes + self.held.nbytes + (0 if self.part is None else self.part.nbytes)


class RemovedRows:
    """Rows of files that left. They may have `max_bytes`, most of them on disk, and come of `max_files`, or of as many
    as `wanted` are.

    Not for use from two threads; what it returns may be used from any.
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
        # What the question under way is about: never forgotten meanwhile.
        self.wanted: Collection[Key] = ()
        files = {
            tier: LocalFiles(lake, f"lifecycle/{tier}", lake.settings.home / "cache" / "files") for tier in quantizers
        }
        self._loaders = {tier: Loader(tier, files[tier], terms) for tier in quantizers}
        self._folder, self._terms, self._quantizers = folder, terms, quantizers
        shutil.rmtree(folder, ignore_errors=True)
        self._left: OrderedDict[Key, _RemovedFile] = OrderedDict()
        self._words: KeywordIndex | None = None
        self._words_changed = False
        self._next_number = FIRST_NUMBER

    def written(self, tier: str, file: DataFile) -> np.ndarray:
        """How the rows of a file were written, as in `Part.written`. Raises as `Loader.written`."""
        return self._met(tier, file).written

    def gone(self, tier: str, file: DataFile, today: np.ndarray) -> Part | None:
        """The rows of a file that the table, whose rows were written as `today` says, has no more; None where it has
        all.

        Raises:
            InvalidRequest: what is wanted takes more than it may.
            StoreUnavailable: the file could not be read.
        """
        left = self._met(tier, file)
        gone = ~np.isin(left.written, today)
        loader = self._loaders[tier]
        if (gone & ~left.held).any():
            whole = loader.load(file.day, [file], [left.load.start])
            assert whole is not None
            held = gone | left.held
            part = disk_cache.write_part(whole.filter(held), self._folder / "parts" / tier, self._quantizers[tier])
            if left.part is not None:
                self._forget(left.load, left.part)
            left.part, left.held = part, held
            self._index().add(part, left.load.start, left.load.stop)
        loader.files.discard(file.path)
        self._make_room()
        if left.part is None or not gone.any():
            return None
        return left.part.with_hidden(~gone[left.held])

    @property
    def words(self) -> KeywordSearcher | None:
        """The words of the rows of the wanted files; None where there never were any."""
        if self._words is None:
            return None
        if self._words_changed:
            self._words.commit()
            self._words_changed = False
        others = tuple(left.load.start for key, left in self._left.items() if key not in self.wanted)
        return replace(self._words.searcher, without=others)

    def close(self) -> None:
        """Nothing of this is open any more."""
        if self._words is not None:
            self._words.close()

    def _met(self, tier: str, file: DataFile) -> _RemovedFile:
        """What is known of a file that left, at least how its rows were written."""
        key = tier, file.path
        if key not in self._left:
            written = self._loaders[tier].written(file)
            load = RowRange(self._next_number, self._next_number + file.rows, file.day)
            self._next_number = load.stop
            self._left[key] = _RemovedFile(load, written, np.zeros(file.rows, bool))
        self._left.move_to_end(key)
        return self._left[key]

    def _index(self) -> KeywordIndex:
        """The words of files that left, about to be changed."""
        self._words_changed = True
        if self._words is None:
            self._words = KeywordIndex(self._folder / "keywords", self._terms)
        return self._words

    def _make_room(self) -> None:
        """What is held of files that left fits the room that it may have."""
        others = [key for key in self._left if key not in self.wanted]
        held = sum(left.nbytes for left in self._left.values())
        for key in others:
            if held <= self.max_bytes and len(self._left) <= self.max_files:
                return
            left = self._left.pop(key)
            held -= left.nbytes
            if left.part is not None:
                self._forget(left.load, left.part)
        if held > self.max_bytes:
            raise InvalidRequest(
                "as_of",
                f"the rows that left the tables since then have {held} bytes or more; "
                f"expected at most {self.max_bytes} (AKOSHA_API_AS_OF_BYTES): ask for a later time",
            )

    def _forget(self, load: RowRange, part: Part) -> None:
        """The rows are in no index and no file any more. Searches that hold the part go on with the mapped bytes."""
        self._index().remove(load.start)
        if part.folder is not None:
            shutil.rmtree(part.folder, ignore_errors=True)

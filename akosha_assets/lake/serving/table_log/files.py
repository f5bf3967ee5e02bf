"""Follows a Delta table's log and brings its data files within reach of plain file reads.

A follower says which files a table holds; what is made of them is not its business.
Data files never change under a path, so a copy of a remote one is good for as long as it lies there.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import DataFileUnreadable, StoreUnavailable, TableUnreadable, UploadRejected
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.serving.table_log.commit_times import CommitTimes

logger = logging.getLogger(__name__)

# A handle that follows a log keeps every action it saw; a fresh one is small again.
REOPEN_VERSIONS = 500
REOPEN_SECONDS = 300
FILE_MAX_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable Parquet file of a table."""

    path: str
    day: date
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one version of a table, by path."""

    version: int
    committed_at: datetime | None
    files: dict[str, DataFile]

    def beside(self, known: Container[str]) -> dict[date, list[DataFile]]:
        """The files whose paths are not among `known`, by day."""
        found = defaultdict(list)
        for path, file in self.files.items():
            if path not in known:
                found[file.day].append(file)
        return found


class Follower:
    """Tells when a table has a new version and which files it holds. Not for use from two threads."""

    def __init__(self, lake: Lake, address: str, is_expected: Callable[[str], bool] = lambda _: False):
        """`is_expected`: whether the table of an address was written to, as far as somebody else knows."""
        self.lake, self.address, self._is_expected = lake, address, is_expected
        self._table: DeltaTable | None = None
        self._opened_version = 0
        self._opened_at = 0.0
        self._version = -1
        # None until it was looked for.
        self._was_there: bool | None = None
        self._is_remote = "://" in lake.uri(address)
        self._store = ObjectStore(f"{lake.settings.lake()}/{address}")
        self._times = CommitTimes(self._store)

    def poll(self) -> Listing | None:
        """The newest version, or None where it was told before or nothing was written to the table yet.

        Raises:
            StoreUnavailable: the table's log could not be read, or a table that was there is gone.
        """
        if self._table is not None and not self._moved():
            return None
        if self._table is None or self._is_remote or self._version - self._opened_version > REOPEN_VERSIONS:
            # A handle that looks for new versions in a bucket holds the interpreter lock while it waits; opening one
            # does not.
            self._table = self.lake.open(self.address)
            self._opened_at = time.monotonic()
            if self._table is None:
                if self._was_there is None:
                    self._was_there = self.lake.has_lost_log(self.address) or self._is_expected(self.address)
                if self._was_there:
                    raise TableUnreadable(self.lake.uri(self.address), "was written to and has no log now")
                return None
            self._was_there = True
            self._opened_version = self._table.version()
        else:
            tables.refresh(self._table)
        if self._table.version() == self._version:
            return None
        version = self._table.version()
        listing = Listing(version, self._times.at(version), described_files(tables.data_files(self._table)))
        self._version = listing.version
        return listing

    def _moved(self) -> bool:
        """Whether the log has a version after the one told; said to be so now and then, lest a cleaned log hides it."""
        if self._version < 0 or time.monotonic() - self._opened_at > REOPEN_SECONDS:
            self._opened_at = time.monotonic()
            return True
        if self._is_remote:
            return self._store.head(f"_delta_log/{self._version + 1:020d}.json") is not None
        log = Path(self.lake.uri(self.address)) / "_delta_log"
        if not log.exists():
            self._table = None
            return True
        return (log / f"{self._version + 1:020d}.json").exists()

    def forget(self) -> None:
        """The next poll tells of the newest version again: for a reader that could not use what it was told."""
        self._table, self._version = None, -1


@dataclass(frozen=True)
class LocalFiles:
    """Paths of one table's data files on this machine; remote ones are fetched once into `cache`."""

    lake: Lake
    address: str
    cache: Path

    @property
    def folder(self) -> Path:
        """The folder on this machine that all of the table's files lie under."""
        uri = self.lake.uri(self.address)
        return Path(uri) if "://" not in uri else self.cache / self.address

    def path(self, file: str, size_bytes: int) -> Path:
        """Where the bytes of `file`, of which the log says there are `size_bytes`, lie on this machine.

        Raises:
            DataFileUnreadable: it is remote and not there.
            StoreUnavailable: it is remote and could not be fetched.
        """
        uri = self.lake.uri(self.address)
        if "://" not in uri:
            return self.folder / unquote(file)
        local = self.folder / file
        if not local.exists() or local.stat().st_size != size_bytes:
            local.parent.mkdir(parents=True, exist_ok=True)
            part = local.with_name(f".{local.name}.{os.getpid()}.part")
            try:
                ObjectStore(uri).fetch(unquote(file), part, max_bytes=FILE_MAX_BYTES)
            except UploadRejected as error:
                if error.reason == "file_missing":
                    raise DataFileUnreadable(uri, error.message) from error
                raise StoreUnavailable(uri, error.message) from error
            part.replace(local)
        return local

    def discard(self, file: str) -> None:
        """A fetched copy of `file` is gone; the table's own file is never touched."""
        if "://" in self.lake.uri(self.address):
            (self.folder / file).unlink(missing_ok=True)


def described_files(actions: pa.Table) -> dict[str, DataFile]:
    """The files that add actions speak of, by path."""
    days = actions.column("partition.event_day").to_pylist()
    paths = actions.column("path").to_pylist()
    rows = actions.column("num_records").to_pylist()
    sizes = actions.column("size_bytes").to_pylist()
    return {
        path: DataFile(path, day, count, size) for path, day, count, size in zip(paths, days, rows, sizes, strict=True)
    }

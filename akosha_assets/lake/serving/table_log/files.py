"""Follows the log of a Delta table and makes its data files readable as local files.

A data file never changes, so a local copy of a remote one stays valid.
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

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import DataFileUnreadable, StoreUnavailable, TableUnreadable, UploadRejected
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.serving.table_log.commit_times import CommitTimes

logger = logging.getLogger(__name__)

# A handle that follows a log keeps every action in memory; reopening frees it.
REOPEN_VERSIONS = 500
REOPEN_SECONDS = 300
# How often a log in a bucket is asked whether its last known entry was replaced.
ENTRY_SECONDS = 30
FILE_MAX_BYTES = 1 << 40
# For a file whose writer omitted its statistics from the log.
UNKNOWN_ROWS = -1
NO_DAY = date.min


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable Parquet file of a table."""

    path: str
    day: date
    # From the log, or `UNKNOWN_ROWS`.
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one version of a table, by path."""

    version: int
    committed_at: datetime | None
    files: dict[str, DataFile]

    def new_files(self, known: Container[str]) -> dict[date, list[DataFile]]:
        """The files whose paths are not in `known`, by day."""
        by_day = defaultdict(list)
        for path, file in self.files.items():
            if path not in known:
                by_day[file.day].append(file)
        return by_day


class Follower:
    """Reports new versions of a table with their files. Not thread-safe."""

    def __init__(
        self, lake: Lake, address: str, known_table: Callable[[str], tables.KnownTable | None] = lambda _: None
    ):
        """`known_table` returns what the ledger knows of the table at an address; it is called only at the first look
        and when the table was lost, replaced or repaired.
        """
        self.lake, self.address, self._known_table = lake, address, known_table
        self._table: tables.Table | None = None
        self._accepted: tables.KnownTable | None = None
        self._opened_version = 0
        self._opened_at = 0.0
        self._version = -1
        # Identifies the log entry of `_version`; None if the log no longer has it.
        self._entry: object = None
        self._entry_seen_at = 0.0
        self._is_remote = "://" in lake.uri(address)
        self._store = ObjectStore(f"{lake.settings.lake()}/{address}")
        self._times = CommitTimes(self._store)

    def poll(self) -> Listing | None:
        """The newest version; None if it was already reported, or if nothing was written to the table yet.

        Raises:
            StoreUnavailable: the table's log could not be read, or the table is missing, went back to an older version
                or was replaced by another one that the ledger does not know.
        """
        if self._table is not None and not self._moved():
            return None
        if self._table is None or self._is_remote or self._version - self._opened_version > REOPEN_VERSIONS:
            # A handle that looks for new versions in a bucket holds the interpreter lock while it waits; opening one
            # does not.
            self._table = self._open()
            if self._table is None:
                return None
        else:
            tables.refresh(self._table)
        found = tables.KnownTable.from_handle(self._table)
        before = self._accepted
        if before is None or before.find_loss(found) is not None:
            found = self._accept(found)
        self._accepted = found
        is_same = before is not None and before.id == found.id and found.version == self._version
        self._entry = self._find_entry(found.version)
        if is_same:
            return None
        if before is None or before.id != found.id or found.version < self._version:
            self._times = CommitTimes(self._store)
        self._version = found.version
        return Listing(found.version, self._times.at(found.version), described_files(tables.data_files(self._table)))

    def _open(self) -> tables.Table | None:
        """A new handle; None if nothing was ever written to the table."""
        table = self.lake.open(self.address)
        self._opened_at = time.monotonic()
        if table is not None:
            self._opened_version = table.version()
            return table
        if (
            self._accepted is not None
            or self.lake.has_lost_log(self.address)
            or self._known_table(self.address) is not None
        ):
            raise TableUnreadable(self.lake.uri(self.address), "was written to and has no log now")
        return None

    def _accept(self, found: tables.KnownTable) -> tables.KnownTable:
        """The current table, if it is the one that the ledger knows; without a ledger, the one from before.

        What the ledger knows is read before the table is opened again: a commit in between makes it newer, not older.
        """
        known = self._known_table(self.address) or self._accepted
        if known is None:
            return found
        self._table = self._open()
        if self._table is None:
            raise TableUnreadable(self.lake.uri(self.address), "is gone")
        found = tables.KnownTable.from_handle(self._table)
        if (loss := known.find_loss(found)) is not None:
            self._table = None
            raise TableUnreadable(self.lake.uri(self.address), loss)
        return found

    def _moved(self) -> bool:
        """Whether the log has a version after the reported one, or another entry in its place; true now and then,
        lest a cleaned log hides it.
        """
        now = time.monotonic()
        if self._version < 0 or now - self._opened_at > REOPEN_SECONDS:
            self._opened_at = now
            return True
        if self._is_remote:
            if self._store.head(f"_delta_log/{self._version + 1:020d}.json") is not None:
                return True
            if now - self._entry_seen_at < ENTRY_SECONDS:
                return False
        elif (Path(self.lake.uri(self.address)) / f"_delta_log/{self._version + 1:020d}.json").exists():
            return True
        if self._find_entry(self._version) == self._entry:
            return False
        self._table = None
        return True

    def _find_entry(self, version: int) -> object:
        """Identifies the log entry of `version` among others in its place; None if the log has no entry of it."""
        self._entry_seen_at = time.monotonic()
        name = f"_delta_log/{version:020d}.json"
        if self._is_remote:
            found = self._store.head(name)
            return None if found is None else found.etag
        try:
            status = (Path(self.lake.uri(self.address)) / name).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def forget(self) -> None:
        """Makes the next poll report the newest version again, for a reader that could not use it."""
        self._table, self._version = None, -1


@dataclass(frozen=True)
class LocalFiles:
    """Local paths of one table's data files; remote files are fetched once into `cache`."""

    lake: Lake
    address: str
    cache: Path

    @property
    def folder(self) -> Path:
        """The local folder that contains all files of the table."""
        uri = self.lake.uri(self.address)
        return Path(uri) if "://" not in uri else self.cache / self.address

    def path(self, file: str, size_bytes: int) -> Path:
        """The local path of `file`, which has `size_bytes` bytes by the log.

        Raises:
            DataFileUnreadable: the remote file does not exist.
            StoreUnavailable: the remote file could not be fetched.
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
        """Removes the local copy of a remote `file`; never the table's own file."""
        if "://" in self.lake.uri(self.address):
            (self.folder / file).unlink(missing_ok=True)


def described_files(actions: pa.Table) -> dict[str, DataFile]:
    """The files of add actions, by path; those of a table without event days have the day `NO_DAY`."""
    is_by_day = "partition.event_day" in actions.column_names
    days = actions.column("partition.event_day").to_pylist() if is_by_day else [NO_DAY] * actions.num_rows
    paths = actions.column("path").to_pylist()
    rows = actions.column("num_records").to_pylist()
    sizes = actions.column("size_bytes").to_pylist()
    return {
        path: DataFile(path, day, UNKNOWN_ROWS if count is None else count, size)
        for path, day, count, size in zip(paths, days, rows, sizes, strict=True)
    }

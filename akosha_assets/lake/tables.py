"""Delta tables: create, open, read, maintain. `tables.py`, `commits.py` and `days.py` are the only importers of
`deltalake`; its errors become ours here.

Writing batches of rows is in `commits.py`, changing one event day in `days.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from akosha_assets.lake import store_check
from akosha_assets.lake.errors import LeaseLost, StoreUnavailable, TableContended, TableLost
from akosha_assets.lake.row_rules import clamp_times
from akosha_assets.lake.table_spec import TableSpec, rows_with_columns

# No right clock is further ahead than this.
CLOCKS_AHEAD = timedelta(minutes=15)
# Parts of one sequence at most.
PARTS_MAX = 1_000_000

Table = DeltaTable


@contextmanager
def write_errors(table: Table) -> Iterator[None]:
    """Errors of a write through the handle `table` become ours.

    Raises:
        TableContended: another commit conflicts with this one.
        StoreUnavailable: the store does not work, the disk is full, or data files of the table are gone.
        DeltaError: the store works; what is written is refused.
    """
    try:
        yield
    except CommitFailedError as error:
        raise TableContended(table.table_uri, 1, str(error)) from error
    except OSError as error:
        raise StoreUnavailable(table.table_uri, str(error)) from error
    except DeltaError as error:
        # The same error stands for a store that refuses and for rows that cannot be written.
        if (failure := store_check.find_failure(table.table_uri, data_paths(table))) is not None:
            raise StoreUnavailable(table.table_uri, f"{failure} ({error})") from error
        raise


@contextmanager
def read_errors(uri: str) -> Iterator[None]:
    """Errors of a read below `uri` become StoreUnavailable: what the log names must be readable."""
    try:
        yield
    except (OSError, DeltaError, pa.ArrowInvalid) as error:
        # What fails while rows stream in is raised by Arrow, as if the rows were at fault.
        raise StoreUnavailable(uri, str(error)) from error


@dataclass(frozen=True)
class KnownTable:
    """Delta's id of a table, and a version that it has reached."""

    id: str
    version: int

    @classmethod
    def from_handle(cls, table: DeltaTable) -> "KnownTable":
        """The table of the handle, at its version."""
        return cls(str(table.metadata().id), table.version())

    def find_loss(self, found: "KnownTable") -> str | None:
        """Why `found` is not this table at this version or a later one; None if it is."""
        if found.id != self.id:
            return f"was made anew: its id is {found.id}, expected {self.id}"
        if found.version < self.version:
            return f"went back to version {found.version}, expected {self.version} or later"
        return None


@dataclass(frozen=True)
class Fence:
    """A fencing token: `writer` commits each part of `sequence` once, in order, and nothing after a higher sequence."""

    writer: str
    sequence: int
    part: int = 0

    @property
    def transactions(self) -> dict[str, int]:
        """Transaction versions by application id, as the commit of this part records them in the log."""
        first = {self.writer: self.sequence}
        return first | {f"{self.writer}/part": self.sequence * PARTS_MAX + self.part} if self.part else first

    def is_committed(self, last_sequence: int | None, last_part: int | None) -> bool:
        """Whether a table with these transaction versions already has this part.

        Raises:
            LeaseLost: a higher sequence is committed, so this writer was replaced.
        """
        if last_sequence is not None and last_sequence > self.sequence:
            raise LeaseLost(self.sequence)
        if not self.part:
            return last_sequence == self.sequence
        return last_part is not None and last_part >= self.sequence * PARTS_MAX + self.part


def create(uri: str, spec: TableSpec, storage_options: dict[str, str]) -> DeltaTable:
    """Creates the table of `spec` at `uri` unless it exists; returns a fresh handle."""
    if (table := open_table(uri, storage_options)) is not None:
        return table
    try:
        DeltaTable.create(
            uri,
            schema=spec.schema,
            mode="ignore",
            partition_by=list(spec.partition_by),
            name=spec.address.replace("/", "_"),
            configuration=_configuration(spec),
            storage_options=storage_options,
            # A retry would write version 1 with another id over a table that another process has just created.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        pass  # Another process created it meanwhile.
    except (OSError, DeltaError) as error:
        # A new table has no rows that could be the cause.
        raise StoreUnavailable(uri, str(error)) from error
    return open_existing(uri, storage_options)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A data file as the log describes it: `path` below the table, URL-encoded; `statistics` as JSON of Delta."""

    path: str
    size_bytes: int
    modified_at: datetime
    partition: Mapping[str, str]
    statistics: str


def create_over_files(
    uri: str, spec: TableSpec, files: Iterable[FileEntry], storage_options: dict[str, str], metadata: dict[str, str]
) -> DeltaTable:
    """Creates a table at `uri` over `files`, which are already there, in one commit.

    Raises:
        TableContended: there is a table at `uri`.
    """
    actions = [
        AddAction(
            path=file.path,
            size=file.size_bytes,
            partition_values=file.partition,
            modification_time=int(file.modified_at.timestamp() * 1000),
            data_change=True,
            stats=file.statistics,
        )
        for file in files
    ]
    try:
        create_table_with_add_actions(
            uri,
            Schema.from_arrow(spec.schema),
            actions,
            mode="error",
            partition_by=list(spec.partition_by),
            name=spec.address.replace("/", "_"),
            configuration=_configuration(spec),
            storage_options=storage_options,
            commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
        )
    except (OSError, DeltaError) as error:
        if open_table(uri, storage_options) is not None:
            raise TableContended(uri, 1, str(error)) from error
        raise StoreUnavailable(uri, str(error)) from error
    return open_existing(uri, storage_options)


def _configuration(spec: TableSpec) -> dict[str, str | None]:
    return {
        # Opening a table reads every commit since the last checkpoint; at the default of 100 that is slow on S3.
        "delta.checkpointInterval": "10",
        "delta.dataSkippingStatsColumns": ",".join(spec.statistics),
        # Not longer than the files: a log that outlives them lists versions that cannot be read, and a commit every few
        # seconds for a month is half a million entries.
        "delta.logRetentionDuration": "interval 7 days",
        "delta.deletedFileRetentionDuration": "interval 7 days",
    }


def open_table(uri: str, storage_options: dict[str, str], version: int | None = None) -> DeltaTable | None:
    """A fresh handle on `version`, by default the newest; None if there is no table or the log lacks that version."""
    try:
        return DeltaTable(uri, version=version, storage_options=storage_options)
    except TableNotFoundError:
        return None
    except (OSError, DeltaError) as error:
        if version is not None and "version" in str(error).lower():
            return None
        raise StoreUnavailable(uri, str(error)) from error


def open_existing(uri: str, storage_options: dict[str, str]) -> DeltaTable:
    """A fresh handle on the newest version. Raises StoreUnavailable if there is no table."""
    with read_errors(uri):
        return DeltaTable(uri, storage_options=storage_options)


def open_expected(uri: str, storage_options: dict[str, str], expected: KnownTable) -> DeltaTable:
    """A fresh handle on the `expected` table at its newest version.

    Raises:
        TableLost: it is not there, or another table, or an older version of it.
    """
    table = open_table(uri, storage_options)
    found = "is gone" if table is None else expected.find_loss(KnownTable.from_handle(table))
    if table is None or found is not None:
        raise TableLost(uri, found or "is gone")
    return table


def committed_sequence(table: DeltaTable, writer: str) -> int | None:
    """The last sequence that `writer` had committed at the version of the handle; None if it had committed none.

    Raises:
        StoreUnavailable: the log could not be read.
    """
    with read_errors(table.table_uri):
        known: int | None = table.transaction_version(writer)
    return known


def select(table: DeltaTable, columns: list[str], schema: pa.Schema, where: str = "") -> pa.Table:
    """`columns` of the rows for which `where` (SQL) holds; times that Python does not have are clamped.

    Not `DeltaTable.to_pyarrow_table`: in deltalake 1.6.3 it now and then aborts the process at exit.

    Raises:
        StoreUnavailable: a data file of the handle's version cannot be read.
    """
    wanted = pa.schema([schema.field(name) for name in columns])
    names = ", ".join(f'"{name}"' for name in columns)
    rows = rows_with_columns(column_names(table), schema) + (f" WHERE {where}" if where else "")
    with read_errors(table.table_uri):
        found = pa.table(QueryBuilder().register("t", table).execute(f"SELECT {names} FROM {rows}"))  # noqa: S608
    return clamp_times(found.cast(wanted))


def column_names(table: DeltaTable) -> list[str]:
    """The columns of the handle's version."""
    return [field.name for field in table.schema().fields]


def refresh(table: DeltaTable) -> None:
    """Moves the handle to the newest version."""
    with read_errors(table.table_uri):
        table.update_incremental()


def data_files(table: DeltaTable) -> pa.Table:
    """The files of the handle's version: `path` below the table, `num_records`, and `partition.<column>` of each."""
    return pa.table(table.get_add_actions(flatten=True))


def data_paths(table: DeltaTable) -> list[str]:
    """The paths of the handle's data files below the table, URL-encoded."""
    paths: list[str] = data_files(table)["path"].to_pylist()
    return paths


def pack(
    table: DeltaTable, partition: list[tuple[str, str, str]] | None, *, file_bytes: int, row_group_rows: int
) -> None:
    """Merges small files of `partition`, or of the table, up to `file_bytes`. Raises as `write_errors`."""
    writer = WriterProperties(compression="ZSTD", compression_level=6, max_row_group_size=row_group_rows)
    with write_errors(table):
        table.optimize.compact(partition_filters=partition, target_size=file_bytes, writer_properties=writer)


def clean_log(table: DeltaTable) -> None:
    """Writes a checkpoint of the handle's version and removes log entries past their retention."""
    with write_errors(table):
        table.create_checkpoint()
        table.cleanup_metadata()


def vacuum(table: DeltaTable, retention_hours: int, *, is_full: bool, dry_run: bool) -> list[str]:
    """Deletes files that the log removed `retention_hours` ago, or lists them in a dry run; returns their paths.

    `is_full`: also files of that age that the log does not know.
    """
    with write_errors(table):
        return table.vacuum(retention_hours, dry_run=dry_run, full=is_full)

"""Delta operations: open, append, upsert, overwrite. Only this module and `days.py` import `deltalake`.

Errors of `deltalake` become the lake's own here. Every write goes through `commit`: open a handle, check whether the
transaction was already committed, write with that handle, retry on a conflict. So a write happens exactly once, and a
writer that lost its lease cannot commit.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from akosha_assets.lake import store_check
from akosha_assets.lake.errors import LeaseLost, StoreUnavailable, TableContended, TableLost
from akosha_assets.lake.row_rules import clamp_times, repair_table
from akosha_assets.lake.table_spec import TableSpec

logger = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 12
# Failed writes on a working store after which the rows are at fault.
WRITE_ATTEMPTS = 3
# A snapshot time further ahead than this comes from a wrong clock.
CLOCKS_AHEAD = timedelta(minutes=15)
# Parts of one sequence at most.
PARTS_MAX = 1_000_000
WRITER = WriterProperties(compression="ZSTD", compression_level=3)


Table = DeltaTable


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
    """Creates the table of `spec` at `uri`, or opens the one that is there."""
    try:
        return DeltaTable(uri, storage_options=storage_options)
    except TableNotFoundError:
        pass
    except (OSError, DeltaError) as error:
        raise StoreUnavailable(uri, str(error)) from error
    try:
        return DeltaTable.create(
            uri,
            schema=spec.schema,
            mode="ignore",
            partition_by=list(spec.partition_by),
            name=spec.address.replace("/", "_"),
            configuration=_configuration(spec),
            storage_options=storage_options,
        )
    except CommitFailedError:
        # Another writer created it meanwhile.
        return _open_existing(uri, storage_options)
    except (OSError, DeltaError) as error:
        # A new table has no rows that could be at fault.
        raise StoreUnavailable(uri, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A data file in a table's log: `path` below the table, URL-encoded; `statistics` as Delta's JSON."""

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
            commit_properties=CommitProperties(custom_metadata=metadata),
        )
    except (OSError, DeltaError) as error:
        if open_table(uri, storage_options) is not None:
            raise TableContended(uri, 1, str(error)) from error
        raise StoreUnavailable(uri, str(error)) from error
    return _open_existing(uri, storage_options)


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
    """A fresh handle on the newest version or on `version`; None if the table or that version does not exist."""
    try:
        return DeltaTable(uri, version=version, storage_options=storage_options)
    except TableNotFoundError:
        return None
    except (OSError, DeltaError) as error:
        if version is not None and "version" in str(error).lower():
            return None
        raise StoreUnavailable(uri, str(error)) from error


def _open_existing(uri: str, storage_options: dict[str, str]) -> DeltaTable:
    try:
        return DeltaTable(uri, storage_options=storage_options)
    except (OSError, DeltaError) as error:
        raise StoreUnavailable(uri, str(error)) from error


def _open_expected(uri: str, storage_options: dict[str, str], expected: KnownTable) -> DeltaTable:
    table = open_table(uri, storage_options)
    found = "is gone" if table is None else expected.find_loss(KnownTable.from_handle(table))
    if table is None or found is not None:
        raise TableLost(uri, found or "is gone")
    return table


def committed_sequence(table: DeltaTable, writer: str) -> int | None:
    """The last sequence that `writer` committed, at the version of the handle; None if it never did.

    Raises:
        StoreUnavailable: the log could not be read.
    """
    try:
        known: int | None = table.transaction_version(writer)
    except (OSError, DeltaError) as error:
        raise StoreUnavailable(table.table_uri, str(error)) from error
    return known


def commit(  # noqa: C901
    uri: str,
    storage_options: dict[str, str],
    fence: Fence | None,
    write: Callable[[DeltaTable, CommitProperties], Any],
    metadata: dict[str, str],
    expected: KnownTable | None = None,
) -> int:
    """Commits `write` exactly once under `fence`; returns the table version that has it.

    Without a fence it may be committed twice if the reply to a commit is lost: only for changes that are idempotent.

    Raises:
        TableLost: the table at `uri` is not the `expected` one, or is gone.
        LeaseLost: a higher sequence of the same writer is committed, so this writer was replaced.
        TableContended: every attempt conflicted with another commit.
        StoreUnavailable: the table cannot be read or written now, or has lost data files.
        DeltaError: store and table work, but the write fails every time.
    """
    cause, refused = "", 0
    for attempt in range(COMMIT_ATTEMPTS):
        if expected is None:
            table = _open_existing(uri, storage_options)
        else:
            table = _open_expected(uri, storage_options, expected)
        if fence is not None:
            last_part = committed_sequence(table, f"{fence.writer}/part") if fence.part else None
            if fence.is_committed(committed_sequence(table, fence.writer), last_part):
                return table.version()
        try:
            properties = CommitProperties(
                custom_metadata=metadata,
                max_commit_retries=50,
                app_transactions=[Transaction(*one) for one in fence.transactions.items()] if fence else [],
            )
            write(table, properties)
            return table.version()
        except CommitFailedError as error:
            cause = str(error)
            logger.info("commit met a concurrent change", extra={"table": uri, "attempt": attempt, "cause": cause})
            _pause(attempt)
        except SchemaMismatchError:
            raise
        except OSError as error:
            raise StoreUnavailable(uri, str(error)) from error
        except DeltaError as error:
            # A failing store and rows that cannot be written raise the same error.
            if (failure := store_check.find_failure(table)) is not None:
                raise StoreUnavailable(uri, f"{failure} ({error})") from error
            refused += 1
            if refused == WRITE_ATTEMPTS:
                raise
            logger.warning(
                "a write failed and is tried again", extra={"table": uri, "attempt": attempt, "cause": str(error)}
            )
            _pause(attempt)
    raise TableContended(uri, COMMIT_ATTEMPTS, cause)


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.01, 0.05) * 2 ** min(attempt, 6))


def checked(uri: str, rows: pa.Table) -> pa.Table:
    """The rows, repaired where they break a rule. Repairs are logged, because extraction should have made them."""
    repaired, counts = repair_table(rows)
    if counts:
        logger.warning("rows were repaired as they were written", extra={"table": uri, **counts})
    return repaired


def append(
    uri: str,
    rows: pa.Table,
    fence: Fence,
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    expected: KnownTable | None = None,
) -> int:
    """Appends `rows` exactly once; returns the version that has them. Without rows only the fence is recorded."""
    rows = checked(uri, rows)

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        write_deltalake(table, rows, mode="append", commit_properties=properties, writer_properties=WRITER)

    return commit(uri, storage_options, fence, write, metadata, expected)


def upsert(
    uri: str,
    rows: pa.Table,
    fence: Fence,
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    only: str,
    expected: KnownTable | None = None,
) -> int:
    """Inserts `rows`, or replaces their forms from older snapshots, in one commit; returns the version that has them.

    `only` is a predicate on the target (alias `t`) that selects the partitions and systems that can have old forms, so
    that no other file is read. A stored row from the same or a newer snapshot is kept, unless that snapshot is in the
    future: then a clock was ahead when it was ingested. A row without a vector keeps the stored one of the same text.
    """
    rows = checked(uri, rows)
    latest = f"to_timestamp_micros({int((datetime.now(UTC) + CLOCKS_AHEAD).timestamp() * 1e6)})"
    updates = {name: f's."{name}"' for name in rows.schema.names}
    if {"vector", "space", "text"} <= set(updates):
        for name in ("vector", "space"):
            updates[name] = f"CASE WHEN s.vector IS NULL AND s.text = t.text THEN t.{name} ELSE s.{name} END"

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        merger = table.merge(
            rows,
            predicate=f"({only}) AND t.system_id = s.system_id AND t.kind = s.kind AND t.id = s.id",
            source_alias="s",
            target_alias="t",
            commit_properties=properties,
            writer_properties=WRITER,
        )
        merger.when_matched_update(
            updates, predicate=f"t.snapshot_at < s.snapshot_at OR t.snapshot_at > {latest}"
        ).when_not_matched_insert_all().execute()

    return commit(uri, storage_options, fence, write, metadata, expected)


def overwrite(table: DeltaTable, rows: pa.Table, metadata: dict[str, str]) -> int:
    """Replaces all rows of the table by `rows`; returns the version that has them.

    Raises:
        TableContended: the table was changed since `table` was opened.
    """
    try:
        write_deltalake(
            table,
            checked(table.table_uri, rows),
            mode="overwrite",
            commit_properties=CommitProperties(custom_metadata=metadata),
            writer_properties=WRITER,
        )
    except CommitFailedError as error:
        raise TableContended(table.table_uri, 1, str(error)) from error
    except (OSError, DeltaError) as error:
        raise StoreUnavailable(table.table_uri, str(error)) from error
    return table.version()


def update_columns(
    uri: str,
    rows: pa.Table,
    columns: list[str],
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    only: str,
) -> int:
    """Sets `columns` in the rows whose content is still that of `rows`; returns the version that has them.

    `rows` have the identity, `content_hash` and `columns`; `only` selects the files to read, as in `upsert`.
    """
    rows = checked(uri, rows)

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        table.merge(
            rows,
            predicate=(
                f"({only}) AND t.system_id = s.system_id AND t.kind = s.kind AND t.id = s.id AND "
                "t.content_hash = s.content_hash"
            ),
            source_alias="s",
            target_alias="t",
            commit_properties=properties,
            writer_properties=WRITER,
        ).when_matched_update({name: f"s.{name}" for name in columns}).execute()

    return commit(uri, storage_options, None, write, metadata)


def select(table: DeltaTable, columns: list[str], schema: pa.Schema, where: str = "") -> pa.Table:
    """`columns` of the rows for which `where` (SQL) holds, read with file pruning from any store; times as Python has
    them.

    Not `DeltaTable.to_pyarrow_table`: in deltalake 1.6.3 it now and then aborts the process at exit.

    Raises:
        StoreUnavailable: a data file cannot be read; the table says that it is there.
    """
    wanted = pa.schema([schema.field(name) for name in columns])
    names = ", ".join(f'"{name}"' for name in columns)
    condition = f" WHERE {where}" if where else ""
    try:
        found = pa.table(QueryBuilder().register("t", table).execute(f"SELECT {names} FROM t{condition}"))  # noqa: S608
    except (OSError, DeltaError, pa.ArrowInvalid) as error:
        # What fails while rows stream in is told by Arrow, as if the rows were at fault.
        raise StoreUnavailable(table.table_uri, str(error)) from error
    return clamp_times(found.cast(wanted))


def refresh(table: DeltaTable) -> None:
    """The handle shows the newest version."""
    try:
        table.update_incremental()
    except (OSError, DeltaError) as error:
        raise StoreUnavailable(table.table_uri, str(error)) from error


def data_files(table: DeltaTable) -> pa.Table:
    """The files of the handle's version: `path` below the table, `num_records`, and `partition.<column>` of each."""
    return pa.table(table.get_add_actions(flatten=True))


def quoted(values: list[str]) -> str:
    """`values` as a list of SQL string literals for an IN predicate."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)

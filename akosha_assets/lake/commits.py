"""Writes batches of rows to Delta tables: append, upsert, overwrite, update of columns.

Every write goes through `commit`: open a handle, look whether the transaction is known, write with that same handle,
try again on a conflict. That makes a write happen exactly once and fences off writers that lost their lease.
"""

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from akosha_assets.lake import store_check, tables
from akosha_assets.lake.errors import StoreUnavailable, TableContended
from akosha_assets.lake.row_rules import repair_table

logger = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 12
# Writes that fail although the store works, before the rows are blamed.
WRITE_ATTEMPTS = 3
WRITER = WriterProperties(compression="ZSTD", compression_level=3)


def commit(
    uri: str,
    storage_options: dict[str, str],
    fence: tables.Fence | None,
    write: Callable[[DeltaTable, CommitProperties], Any],
    metadata: dict[str, str],
    expected: tables.KnownTable | None = None,
) -> int:
    """`write` has happened exactly once under `fence`; returns the table version that holds it.

    Without a fence it may happen again when a commit's reply is lost: for changes that do no harm twice.

    Raises:
        TableLost: what lies at `uri` is not the `expected` table, or none.
        LeaseLost: a higher sequence of the same writer is committed, so this writer was replaced.
        TableContended: every attempt met a conflicting commit.
        StoreUnavailable: the table cannot be read or written now, or has lost data files.
        DeltaError: store and table work, and what is written is refused again and again.
    """
    cause, refused = "", 0
    for attempt in range(COMMIT_ATTEMPTS):
        if expected is None:
            table = tables.open_existing(uri, storage_options)
        else:
            table = tables.open_expected(uri, storage_options, expected)
        if fence is not None:
            last_part = tables.committed_sequence(table, f"{fence.writer}/part") if fence.part else None
            if fence.is_committed(tables.committed_sequence(table, fence.writer), last_part):
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
            # The same error stands for a store that refuses and for rows that cannot be written.
            if (failure := store_check.find_failure(uri, tables.data_paths(table))) is not None:
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
    """The rows as a table may hold them. What had to be repaired is logged: extraction should have done it."""
    repaired, counts = repair_table(rows)
    if counts:
        logger.warning("rows were repaired as they were written", extra={"table": uri, **counts})
    return repaired


def append(
    uri: str,
    rows: pa.Table,
    fence: tables.Fence,
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    expected: tables.KnownTable | None = None,
) -> int:
    """`rows` are in the table once; returns the version that holds them. No rows: only the fence is recorded."""
    rows = checked(uri, rows)

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        write_deltalake(table, rows, mode="append", commit_properties=properties, writer_properties=WRITER)

    return commit(uri, storage_options, fence, write, metadata, expected)


def upsert(
    uri: str,
    rows: pa.Table,
    fence: tables.Fence,
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    only: str,
    expected: tables.KnownTable | None = None,
) -> int:
    """Each of `rows` stands in the table in this form, replacing an older snapshot's; one commit.

    `only` is a predicate on the target (alias `t`) that names the partitions and systems where old forms can lie, so
    that no other file is read. A row that stands there from the same or a newer snapshot is left alone, unless that
    snapshot lies in the future: then a clock was ahead when it was taken in. A form that comes without a vector keeps
    the one that was made of the same text.
    """
    rows = checked(uri, rows)
    latest = f"to_timestamp_micros({int((datetime.now(UTC) + tables.CLOCKS_AHEAD).timestamp() * 1e6)})"
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
    """The table holds `rows` and nothing else; returns the version that does.

    Raises:
        TableContended: the table was changed since `table` was opened.
    """
    with tables.write_errors(table):
        write_deltalake(
            table,
            checked(table.table_uri, rows),
            mode="overwrite",
            commit_properties=CommitProperties(custom_metadata=metadata),
            writer_properties=WRITER,
        )
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
    """Rows of the table that still have the content of `rows` have `columns` from it; returns the version.

    `rows` hold the identity, `content_hash` and `columns`; `only` bounds what is read, as in `upsert`.
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

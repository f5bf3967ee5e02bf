"""Writes batches of rows to Delta tables: append, upsert, overwrite, update of columns.

Every write goes through `commit`: it opens a handle, checks whether the transaction is committed already, writes with
the same handle, and retries on a conflict. So a write happens exactly once, and a writer that lost its lease is fenced
off.
"""

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from akosha_assets.lake import store_check, tables
from akosha_assets.lake.errors import StoreUnavailable, TableContended
from akosha_assets.lake.row_rules import repair_table
from akosha_assets.lake.table_spec import missing_columns

logger = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 12
# Failed writes on a working store after which the rows are at fault.
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
    """Runs `write` exactly once under `fence`; returns the table version that contains it.

    Without a fence it may run again when the reply to a commit is lost: only for changes that may be repeated.

    Raises:
        TableLost: the table at `uri` is not the `expected` one, or is gone.
        LeaseLost: a higher sequence of the same writer is committed, so this writer was replaced.
        TableContended: every attempt met a conflicting commit.
        StoreUnavailable: the table cannot be read or written now, or data files of it are missing.
        DeltaError: the store and the table work, but every attempt to write these rows is refused.
    """
    cause, refused = "", 0
    for attempt in range(COMMIT_ATTEMPTS):
        table = _open(uri, storage_options, expected)
        if fence is not None and _is_committed(table, fence):
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
            logger.info("a commit met a conflicting commit", extra={"table": uri, "attempt": attempt, "cause": cause})
            _pause(attempt)
        except SchemaMismatchError:
            raise
        except OSError as error:
            raise StoreUnavailable(uri, str(error)) from error
        except DeltaError as error:
            # A failing store and rows that cannot be written raise the same error.
            if (failure := store_check.find_failure(uri, tables.data_paths(table))) is not None:
                raise StoreUnavailable(uri, f"{failure} ({error})") from error
            refused += 1
            if refused == WRITE_ATTEMPTS:
                raise
            logger.warning(
                "a write failed and is retried", extra={"table": uri, "attempt": attempt, "cause": str(error)}
            )
            _pause(attempt)
    raise TableContended(uri, COMMIT_ATTEMPTS, cause)


def _open(uri: str, storage_options: dict[str, str], expected: tables.KnownTable | None) -> DeltaTable:
    if expected is None:
        return tables.open_existing(uri, storage_options)
    return tables.open_expected(uri, storage_options, expected)


def _is_committed(table: DeltaTable, fence: tables.Fence) -> bool:
    """Whether the table has this part of the fence. Raises LeaseLost if it has a higher sequence."""
    last_part = tables.committed_sequence(table, f"{fence.writer}/part") if fence.part else None
    return fence.is_committed(tables.committed_sequence(table, fence.writer), last_part)


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.01, 0.05) * 2 ** min(attempt, 6))


def checked(uri: str, rows: pa.Table) -> pa.Table:
    """The rows, repaired where they break a row rule. Repairs are logged, because extraction should have made them."""
    repaired, counts = repair_table(rows)
    if counts:
        logger.warning("rows were repaired as they were written", extra={"table": uri, **counts})
    return repaired


def add_columns(table: DeltaTable, schema: pa.Schema, storage_options: dict[str, str]) -> DeltaTable:
    """The table with the nullable columns of `schema` that an earlier version of Akosha did not have; a fresh handle if
    any was missing. Data files stay as they are.

    Raises:
        TableContended: other commits came first at every attempt.
        StoreUnavailable: the store does not work.
    """
    attempts = 0
    while missing := missing_columns(tables.column_names(table), schema):
        try:
            with tables.write_errors(table):
                table.alter.add_columns(
                    list(Schema.from_arrow(pa.schema(missing)).fields),
                    commit_properties=CommitProperties(custom_metadata={"akosha_op": "add_columns"}),
                )
        except TableContended:
            # Another process may have added them.
            attempts += 1
            if attempts == COMMIT_ATTEMPTS:
                raise
            _pause(attempts)
        table = tables.open_existing(table.table_uri, storage_options)
    return table


def append(
    uri: str,
    rows: pa.Table,
    fence: tables.Fence,
    storage_options: dict[str, str],
    metadata: dict[str, str],
    *,
    expected: tables.KnownTable | None = None,
) -> int:
    """Appends `rows` once; returns the version that contains them. Without rows only the fence is recorded."""
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
    """Inserts `rows`, or replaces their forms that are not from newer snapshots, in one commit; returns the version
    with them.

    `only` is a predicate on the target (alias `t`) that selects the partitions and systems that can have old forms, so
    that no other file is read. A stored row from a newer snapshot is kept, unless that snapshot is in the
    future: then a clock was ahead when it was ingested. A row without a vector keeps the stored one of the same text, a
    row without passages the stored ones of the same text and space.
    """
    rows = checked(uri, rows)
    latest = f"to_timestamp_micros({int((datetime.now(UTC) + tables.CLOCKS_AHEAD).timestamp() * 1e6)})"
    updates = {name: f's."{name}"' for name in rows.schema.names}
    if {"vector", "space", "text"} <= set(updates):
        for name in ("vector", "space"):
            updates[name] = f"CASE WHEN s.vector IS NULL AND s.text = t.text THEN t.{name} ELSE s.{name} END"
        for name in {"passages", "passage_ranges"} & set(updates):
            is_same = "s.passage_ranges IS NULL AND s.text = t.text AND coalesce(s.space, t.space) = t.space"
            updates[name] = f"CASE WHEN {is_same} THEN t.{name} ELSE s.{name} END"

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
            updates, predicate=f"t.snapshot_at <= s.snapshot_at OR t.snapshot_at > {latest}"
        ).when_not_matched_insert_all().execute()

    return commit(uri, storage_options, fence, write, metadata, expected)


def overwrite(table: DeltaTable, rows: pa.Table, metadata: dict[str, str]) -> int:
    """Replaces all rows of the table by `rows`; returns the version that contains them.

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
    """Sets `columns` of the rows that still have the `content_hash` of `rows`; returns the version.

    `rows` have the identity, `content_hash` and `columns`; `only` bounds what is read, as in `upsert`.
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

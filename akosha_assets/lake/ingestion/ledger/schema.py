"""The ledger's SQL tables, and the behaviour of a connection. `ledger.py` and `claims.py` read and write them.

A test checks that the migrations lead to this schema.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.storable_text import escape_unstorable

metadata = MetaData()


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime in Python, a naive one in the database: SQLite stores no time zone."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


class LedgerText(sa.types.TypeDecorator[str]):
    """Text that every database can store: NUL (refused by PostgreSQL) and lone surrogates (refused by PostgreSQL and by
    SQLite's driver) are written as escapes.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return escape_unstorable(str(value)) if value is not None else None


# SQLite generates keys only for a plain INTEGER primary key.
Id = BigInteger().with_variant(Integer, "sqlite")

IS_REQUEUED = sa.text("requeued_at IS NOT NULL")
NOT_SEARCHABLE = sa.text("hot_version IS NOT NULL AND searchable_at IS NULL")

uploads = Table(
    "uploads",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("system_id", LedgerText, nullable=False),
    Column("upload_id", LedgerText, nullable=False),
    Column("layout", LedgerText, nullable=False),
    Column("prefix", LedgerText, nullable=False),
    # Entity tag of the object that completes the upload; empty while it is still arriving.
    Column("revision", LedgerText, nullable=False),
    # Number and digest of its other objects when it was added (`found_uploads.py`).
    Column("objects", LedgerText),
    Column("state", LedgerText, nullable=False),
    Column("found_by", LedgerText, nullable=False),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("snapshot_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    # When a redrive, a replay or a rebuild last queued it again.
    Column("requeued_at", UtcDateTime),
    Column("arrival_day", Date, nullable=False),
    Column("not_before", UtcDateTime),
    Column("batch_id", BigInteger),
    # Size of the largest batch that it may be in: shrinks when a batch fails, until the upload at fault is alone.
    Column("batch_limit", Integer, nullable=False, default=1_000_000),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claimed_at", UtcDateTime),
    # This and the counts below describe the first ingestion of the upload; a replay does not change them.
    Column("ingested_at", UtcDateTime),
    # When a service first served its hot rows.
    Column("searchable_at", UtcDateTime),
    Column("removed_at", UtcDateTime),
    Column("run_id", LedgerText),
    Column("hot_version", BigInteger),
    Column("reason", LedgerText),
    Column("message", LedgerText),
    Column("sample", LedgerText),
    Column("rows_read", BigInteger),
    Column("new_rows", BigInteger),
    Column("changed_rows", BigInteger),
    Column("unchanged_rows", BigInteger),
    Column("absent_rows", BigInteger),
    Column("counts", sa.JSON),
    UniqueConstraint("prefix", "revision"),
    Index("uploads_by_state", "state", "id"),
    Index("uploads_by_system", "system_id", "id"),
    Index("uploads_by_arrival_day", "arrival_day", "state"),
    Index("uploads_by_upload_id", "upload_id"),
    Index("uploads_by_seen_at", "seen_at"),
    Index("uploads_by_ingested_at", "ingested_at"),
    Index("uploads_by_requeued_at", "requeued_at", sqlite_where=IS_REQUEUED, postgresql_where=IS_REQUEUED),
    Index("uploads_not_searchable", "hot_version", sqlite_where=NOT_SEARCHABLE, postgresql_where=NOT_SEARCHABLE),
    # Ids are never reused: Delta transactions and receipts refer to them.
    sqlite_autoincrement=True,
)

batches = Table(
    "batches",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("lane", Integer, nullable=False),
    Column("owner", LedgerText, nullable=False),
    Column("run_id", LedgerText, nullable=False),
    Column("state", LedgerText, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("uploads", Integer, nullable=False, default=0),
    Column("rows", BigInteger),
    Column("error", LedgerText),
    Index("batches_by_state", "state"),
    sqlite_autoincrement=True,
)

systems = Table(
    "systems",
    metadata,
    Column("system_id", LedgerText, primary_key=True),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_upload_at", UtcDateTime),
    Column("last_snapshot_at", UtcDateTime),
    # The live batch of the system; a system is in at most one.
    Column("batch_id", BigInteger),
    # False after a crash between a commit and its ledger entry: known rows are then read from the tables.
    Column("is_known", Boolean, nullable=False, default=True),
    Column("known_rows", BigInteger, nullable=False, default=0),
    Column("digests", sa.JSON),
)

known = Table(
    "known",
    metadata,
    Column("system_id", LedgerText, ForeignKey("systems.system_id", ondelete="CASCADE"), primary_key=True),
    Column("rows", LargeBinary, nullable=False),
)

meta = Table("meta", metadata, Column("key", LedgerText, primary_key=True), Column("value", LedgerText, nullable=False))
counters = Table(
    "counters", metadata, Column("name", LedgerText, primary_key=True), Column("value", BigInteger, nullable=False)
)

# One row per alert, by its key, firing or resolved.
alerts = Table(
    "alerts",
    metadata,
    Column("key", LedgerText, primary_key=True),
    Column("severity", LedgerText, nullable=False),
    Column("state", LedgerText, nullable=False),
    Column("title", LedgerText, nullable=False),
    Column("detail", LedgerText, nullable=False),
    Column("runbook", LedgerText, nullable=False),
    Column("fired_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    # The message that each channel received last, by the digest of the channel.
    Column("delivered", sa.JSON, nullable=False),
    Column("pending", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime),
    Column("error", LedgerText),
    Index("alerts_by_state", "state"),
)


def engine(settings: LakeSettings) -> sa.Engine:
    """Returns an engine for the ledger's database; in SQLite a writing transaction takes its lock at the start."""
    url = sa.make_url(settings.ledger())
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    made = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(made, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(made, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail with "database is locked" instead of waiting.
        mode = "IMMEDIATE" if connection.get_execution_options().get("writes") else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return made


@contextmanager
def typed_errors(engine: sa.Engine) -> Iterator[None]:
    """Raises the database errors of the block as errors of the ledger.

    Raises:
        LedgerUnavailable: it did not answer, is locked, read-only or full.
        LedgerDamaged: the file is damaged or not a database.
    """
    url = engine.url.render_as_string(hide_password=True)
    try:
        yield
    except sa.exc.DBAPIError as error:
        cause = str(error.orig).strip() or type(error.orig).__name__
        if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated:
            if "no such table" in cause or "no such column" in cause:
                raise LedgerDamaged(url, cause) from error
            raise LedgerUnavailable(url, cause) from error
        if type(error) is sa.exc.DatabaseError:
            raise LedgerDamaged(url, cause) from error
        raise
    except sa.exc.TimeoutError as error:
        raise LedgerUnavailable(url, str(error)) from error


def insert_for(connection: sa.Connection) -> Any:
    """Returns the INSERT of the connection's dialect, which supports ON CONFLICT; that of generic SQL does not."""
    from sqlalchemy.dialects import postgresql, sqlite

    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert

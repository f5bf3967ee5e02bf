"""Compares the rows of the tables with what the inbox and the newest backup hold: `akosha verify`. Changes nothing.

A row is compared by its identity, so a newer form of it counts. Rows past the cold window are left out: retention may
have deleted them.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.errors import BackupDamaged, StoreUnavailable, UploadRejected
from akosha_assets.lake.ingestion.extraction import scratch
from akosha_assets.lake.ingestion.extraction.pool import KNOWN_SCHEMA, Extraction, ExtractionJob, ExtractionPool
from akosha_assets.lake.ingestion.inbox.fetching import Fetched, fetch_all
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle_tables import COLD, WARM
from akosha_assets.lake.schemas import ALIASES, TABLES
from akosha_assets.lake.table_spec import TableSpec
from akosha_assets.lake.upkeep import backup
from akosha_assets.lake.upkeep.data_files import UnreadableFile, local_copy, read_columns

# Every table whose rows came from uploads.
COMPARED: tuple[TableSpec, ...] = (*(spec for spec in TABLES.values() if spec.kinds), WARM, COLD)
UPLOADS_AT_ONCE = 500
MEMORY_MIB = 512
KEYS = pa.schema([("system_id", pa.string()), ("kind", pa.string()), ("id", pa.string())])


@dataclass(frozen=True, kw_only=True)
class KindCount:
    """Distinct rows of one kind: in the tables, in the inbox, in the backup, and missing from the tables."""

    kind: str
    tables: int
    inbox: int
    backup: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class MissingRows:
    """Rows of one system and kind that the tables do not have, and where they can be had from."""

    system_id: str
    kind: str
    rows: int
    in_inbox: int
    in_backup: int
    example_id: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared and what is missing. `unread` says by upload why it could not be read."""

    missing: int
    kinds: list[KindCount]
    systems: list[MissingRows]
    uploads_read: int
    uploads_waiting: int
    unread: dict[str, str]
    backup_id: str | None


@dataclass
class _Keys:
    """Identities by where they were found, on disk where they are many."""

    connection: duckdb.DuckDBPyConnection
    first_day: date
    unread: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("stored", "inbox", "backup"):
            self.connection.execute(f"CREATE TABLE {name} (system_id VARCHAR, kind VARCHAR, id VARCHAR)")

    def add(self, place: str, rows: pa.Table) -> None:
        """`rows` have the identity, and `event_day` where their table has it."""
        if "event_day" in rows.schema.names:
            is_kept = pc.greater_equal(rows["event_day"], pa.scalar(self.first_day, pa.date32()))
            rows = rows.filter(pc.fill_null(is_kept, True))
        self.connection.register("batch", rows.select(KEYS.names).cast(KEYS))
        self.connection.execute(f"INSERT INTO {place} SELECT * FROM batch")  # noqa: S608
        self.connection.unregister("batch")


def verify(lake: Lake, ledger: Ledger, *, now: datetime) -> Verification:
    """Every ingested upload of the inbox and the newest backup were compared with the tables.

    Reads every upload again, so it takes about as long as ingesting them all.

    Raises:
        StoreUnavailable: the inbox, the lake or the backups did not answer.
        BackupDamaged: a file of the backup cannot be read.
    """
    first_day = TierPolicy.of(lake.settings).first_kept_day(now.date())
    with (
        tempfile.TemporaryDirectory(prefix="akosha-verify-") as name,
        connect(memory_mib=MEMORY_MIB, spill=Path(name)) as connection,
    ):
        folder = Path(name)
        keys = _Keys(connection, first_day)
        for rows in _stored(lake):
            keys.add("stored", rows)
        read = 0
        for rows in _in_inbox(ledger, keys.unread):
            keys.add("inbox", rows)
            read += 1
        backup_id = None
        if lake.settings.backup_url:
            backup_id, batches = _in_backup(lake, folder)
            for rows in batches:
                keys.add("backup", rows)
        connection.register("aliases", lake.select(ALIASES.address, [*IDENTITY, "memory_id"]))
        kinds, systems = _compare(connection)
    with ledger.read() as connection_:
        waits = sa.select(sa.func.count()).select_from(uploads).where(uploads.c.state.in_(("waiting", "claimed")))
        waiting = connection_.scalar(waits) or 0
    return Verification(
        missing=sum(one.missing for one in kinds),
        kinds=kinds,
        systems=systems,
        uploads_read=read,
        uploads_waiting=waiting,
        unread=keys.unread,
        backup_id=backup_id,
    )


def _stored(lake: Lake) -> Iterator[pa.Table]:
    for spec in COMPARED:
        table = lake.open(spec.address)
        if table is not None:
            for batch in days.stream(table, spec, _columns(spec), "true"):
                yield pa.table(batch)


def _columns(spec: TableSpec) -> list[str]:
    return [*IDENTITY, *(["event_day"] if "event_day" in spec.schema.names else [])]


def _in_inbox(ledger: Ledger, unread: dict[str, str]) -> Iterator[pa.Table]:
    """The rows of each ingested upload that is still in the inbox; `unread` gets those that cannot be read."""
    with ExtractionPool(ledger.settings) as pool, scratch.spool() as spool:
        fetched: dict[int, Fetched] = {}

        def jobs() -> Iterator[ExtractionJob]:
            for part in _ingested(ledger):
                for one in fetch_all(ledger.settings, part, lambda _: {}, spool):
                    if isinstance(one.failure, StoreUnavailable):
                        raise one.failure
                    if one.failure is not None:
                        unread[f"{one.upload.system_id}/{one.upload.upload_id}"] = str(one.failure)
                        continue
                    fetched[one.upload.id] = one
                    upload = one.upload
                    known = KNOWN_SCHEMA.empty_table()
                    yield ExtractionJob(
                        upload.id, upload.system_id, upload.snapshot_at, upload.seen_at, one.files, known
                    )

        for job, extraction in pool.extract(jobs()):
            one = fetched.pop(job.ref)
            one.discard()
            if isinstance(extraction, Extraction):
                rows = extraction.seen.select(["kind", "id", "event_day"])
                yield rows.append_column("system_id", pa.repeat(job.system_id, rows.num_rows))
            else:
                unread[f"{one.upload.system_id}/{one.upload.upload_id}"] = str(extraction)


def _ingested(ledger: Ledger) -> Iterator[list[UploadRow]]:
    """The ingested uploads that were not removed from the inbox, in parts."""
    last = 0
    there = sa.and_(uploads.c.state == UploadState.INGESTED, uploads.c.removed_at.is_(None))
    while True:
        with ledger.read() as connection:
            query = sa.select(uploads).where(there, uploads.c.id > last).order_by(uploads.c.id).limit(UPLOADS_AT_ONCE)
            part = [UploadRow.of(row) for row in connection.execute(query)]
        if not part:
            return
        yield part
        last = part[-1].id


def _in_backup(lake: Lake, folder: Path) -> tuple[str | None, Iterable[pa.Table]]:
    store = backup.store_of(lake.settings)
    names = backup.backups(store)
    if not names:
        return None, ()
    specs = {spec.address: spec for spec in COMPARED}

    def batches() -> Iterator[pa.Table]:
        for table in backup.read(store, names[-1]).tables:
            if table.address not in specs:
                continue
            spec = specs[table.address]
            for file in table.files:
                if file.path.startswith("_delta_log/"):
                    continue
                key = f"files/{table.address}/{file.path}"
                with ExitStack() as stack:
                    try:
                        path = local_copy(store, key, folder, stack)
                        yield from read_columns(path, file.path, spec, _columns(spec))
                    except (UploadRejected, UnreadableFile) as error:
                        raise BackupDamaged(names[-1], key, str(error), "a data file") from error

    return names[-1], batches()


def _compare(connection: duckdb.DuckDBPyConnection) -> tuple[list[KindCount], list[MissingRows]]:
    connection.execute(
        """CREATE TABLE compared AS
           WITH found AS (
               SELECT *, 'stored' AS place FROM stored UNION ALL SELECT *, 'inbox' FROM inbox
               UNION ALL SELECT *, 'backup' FROM backup
           ), names AS (SELECT DISTINCT * FROM aliases)
           SELECT f.system_id, f.kind, coalesce(n.memory_id, f.id) AS id, bool_or(place = 'stored') AS is_stored,
                  bool_or(place = 'inbox') AS in_inbox, bool_or(place = 'backup') AS in_backup
           FROM found f LEFT JOIN names n USING (system_id, kind, id)
           GROUP BY ALL"""
    )
    kinds = connection.execute(
        """SELECT kind, count(*) FILTER (is_stored), count(*) FILTER (in_inbox), count(*) FILTER (in_backup),
                  count(*) FILTER (NOT is_stored)
           FROM compared GROUP BY kind ORDER BY kind"""
    ).fetchall()
    systems = connection.execute(
        """SELECT system_id, kind, count(*), count(*) FILTER (in_inbox), count(*) FILTER (in_backup), min(id)
           FROM compared WHERE NOT is_stored GROUP BY system_id, kind ORDER BY count(*) DESC, system_id, kind"""
    ).fetchall()
    return (
        [
            KindCount(kind=kind, tables=stored, inbox=inbox, backup=saved, missing=missing)
            for kind, stored, inbox, saved, missing in kinds
        ],
        [
            MissingRows(system_id=system_id, kind=kind, rows=rows, in_inbox=inbox, in_backup=saved, example_id=example)
            for system_id, kind, rows, inbox, saved, example in systems
        ],
    )

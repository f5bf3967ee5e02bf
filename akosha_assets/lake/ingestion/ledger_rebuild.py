"""Checks that the ledger belongs to the lake, and rebuilds a lost one from the inbox and the provenance of rows.

With the ledger of another lake, or an empty one, ingestion would store rows twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.errors import InvalidRequest, LedgerMismatch, TableLost
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches, insert_for, systems, uploads
from akosha_assets.lake.ingestion.ledger.states import BatchState, UploadState
from akosha_assets.lake.schemas import HOT, TABLES, WRITTEN_BY_INGESTION

LAKE_ID = "lake_id"
# More ingest runs than any lake has at the same time.
LANES = 64
PROVENANCE = ["system_id", "upload_id", "object_key", "arrived_at", "snapshot_at", "batch_id"]


def check(lake: Lake, ledger: Ledger) -> None:
    """Checks that the ledger belongs to the tables. Binds a new ledger to an empty lake.

    Raises:
        LedgerMismatch: it belongs to another lake; the message says what to do.
        TableLost: a table that this ledger knows is missing or was reset to an older version.
    """
    lake_id = ledger.remembered(LAKE_ID)
    known_tables.check(ledger, lake)
    table = lake.create(HOT.address) if lake_id is None else lake.open(HOT.address)
    if table is None:
        # A ledger of an earlier version, which recorded only the lake's id.
        raise TableLost(lake.uri(HOT.address), "is gone")
    found = str(table.metadata().id)
    if lake_id == found:
        known_tables.remember_all(ledger, lake)
        return
    if lake_id is not None:
        raise LedgerMismatch(
            f"the ledger belongs to lake {lake_id}, but the tables at {lake.settings.lake()} are lake {found}. "
            "Point AKOSHA_LEDGER_URL and AKOSHA_LAKE_URL at a pair; after a restore of the tables run `akosha ledger "
            "rebuild` on a new ledger."
        )
    if table.file_uris():
        raise LedgerMismatch(
            f"the ledger is new, but the tables at {lake.settings.lake()} already contain rows; ingestion would store "
            "them twice. "
            "Run `akosha ledger rebuild`, or point AKOSHA_LEDGER_URL at the ledger of these tables."
        )
    ledger.remember(LAKE_ID, found)


def adopt(ledger: Ledger, lake: Lake) -> None:
    """Binds the ledger to the current tables, if it was bound to any."""
    table = lake.open(HOT.address)
    if table is not None and ledger.remembered(LAKE_ID) is not None:
        ledger.remember(LAKE_ID, str(table.metadata().id))


@dataclass(frozen=True)
class Rebuilt:
    """Counts of a rebuilt ledger: uploads whose rows are in the tables, uploads that wait to be compared, systems."""

    ingested: int
    waiting: int
    systems: int


def rebuild(lake: Lake, ledger: Ledger, *, now: datetime) -> Rebuilt:
    """Adds the uploads of the inbox and of the tables to a new ledger.

    Uploads in the inbox wait to be compared with the tables, because rows in one table do not prove that the other
    tables are complete. Uploads that are no longer in the inbox count as ingested if any row came from them.

    Raises:
        InvalidRequest: the ledger has ingested uploads already.
    """
    if ledger.remembered(LAKE_ID) is not None:
        raise InvalidRequest(
            "ledger", f"{ledger.engine.url!r} has ingested uploads already; expected a new ledger. Move it away first."
        )
    sweep(ledger.settings, ledger, now=now, whole=True)
    found = _provenance(lake)
    with ledger.write() as connection:
        _continue_batches(connection, lake, max((one["batch_id"] for one in found), default=0), now)
        insert: Any = insert_for(connection)
        for one in found:
            match = sa.and_(uploads.c.system_id == one["system_id"], uploads.c.upload_id == one["upload_id"])
            day = one["arrived_at"].date()
            arrived = {"seen_at": one["arrived_at"], "arrival_day": day}
            if connection.execute(sa.update(uploads).where(match).values(**arrived)).rowcount:
                continue
            ingested = {"state": UploadState.INGESTED, "ingested_at": one["arrived_at"], **arrived}
            removed = {
                "system_id": one["system_id"],
                "upload_id": one["upload_id"],
                "layout": "session-buddy",
                "prefix": one["object_key"].rpartition("/")[0],
                "revision": f"batch {one['batch_id']}",
                "found_by": "tables",
                "snapshot_at": one["snapshot_at"],
                "removed_at": now,
                **ingested,
            }
            connection.execute(insert(uploads).values(**removed).on_conflict_do_nothing())
        connection.execute(sa.update(uploads).where(uploads.c.state == UploadState.WAITING).values(requeued_at=now))
        names = {one["system_id"]: one["arrived_at"] for one in reversed(found)}
        if names:
            # Known rows are read from the tables before the next comparison.
            known = [{"system_id": name, "first_seen_at": at, "is_known": False} for name, at in names.items()]
            connection.execute(insert(systems).on_conflict_do_nothing(), known)
        counted = dict(
            connection.execute(sa.select(uploads.c.state, sa.func.count()).group_by(uploads.c.state)).tuples().all()
        )
    ledger.remember(LAKE_ID, str(lake.create(HOT.address).metadata().id))
    known_tables.remember_all(ledger, lake)
    return Rebuilt(counted.get(UploadState.INGESTED, 0), counted.get(UploadState.WAITING, 0), len(names))


def _provenance(lake: Lake) -> list[dict[str, Any]]:
    """Returns every upload that a row came from, in order of arrival."""
    parts = []
    for address, spec in TABLES.items():
        if set(PROVENANCE) <= set(spec.schema.names):
            rows = lake.select(address, PROVENANCE)
            parts.append(rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema])))
    with connect() as connection:
        connection.register("provenance", pa.concat_tables(parts))
        uploads: list[dict[str, Any]] = (
            connection.sql(
                """SELECT system_id, upload_id, any_value(object_key) AS object_key, min(arrived_at) AS arrived_at,
                      max(snapshot_at) AS snapshot_at, max(batch_id) AS batch_id
               FROM provenance GROUP BY system_id, upload_id ORDER BY arrived_at"""
            )
            .to_arrow_table()
            .to_pylist()
        )
    return uploads


def _continue_batches(connection: sa.Connection, lake: Lake, highest: int, now: datetime) -> None:
    """Gives the next batch a higher id than any batch in the tables, in rows or as a fence."""
    for spec in WRITTEN_BY_INGESTION:
        table = lake.create(spec.address)
        highest = max([highest, *[table.transaction_version(f"ingest/{lane}") or 0 for lane in range(LANES)]])
    if highest == 0:
        return
    row = {
        "id": highest,
        "lane": 0,
        "owner": "rebuild",
        "run_id": "rebuild",
        "state": BatchState.DONE,
        "lease_until": now,
        "claimed_at": now,
    }
    connection.execute(sa.insert(batches).values(**row))
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT setval(pg_get_serial_sequence('batches', 'id'), :highest)"), {"highest": highest}
        )

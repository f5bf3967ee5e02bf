"""The systems of one batch in the ledger: known rows and digests of files, before the batch and after it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.extraction.pool import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.inbox.fetching import Fetched
from akosha_assets.lake.ingestion.ledger import plausible
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import SystemState
from akosha_assets.lake.ingestion.ledger.schema import known as known_table
from akosha_assets.lake.ingestion.ledger.schema import systems
from akosha_assets.lake.ingestion.merge import known_rows


@dataclass
class SystemStates:
    """Known rows (KNOWN_SCHEMA), digests by file name, and the time of the newest snapshot, each by system."""

    rows: dict[str, pa.Table]
    digests: dict[str, dict[str, Any]]
    last_snapshot_at: dict[str, datetime | None]

    @classmethod
    def load(cls, lake: Lake, ledger: Ledger, system_ids: list[str], *, now: datetime) -> "SystemStates":
        """Returns the states of `system_ids`, read from the tables if a crash left the ledger behind the tables.

        Rows that were ingested while a clock was ahead count as older than every later snapshot.
        """
        found: list[Any] = []
        latest = plausible.latest_snapshot(now)
        with ledger.read() as connection:
            for start in range(0, len(system_ids), 500):
                part = system_ids[start : start + 500]
                query = sa.select(systems, known_table.c.rows).join(
                    known_table, known_table.c.system_id == systems.c.system_id, isouter=True
                )
                found += connection.execute(query.where(systems.c.system_id.in_(part))).all()
        rows = {row.system_id: known_rows.decode(row.rows) if row.rows else KNOWN_SCHEMA.empty_table() for row in found}
        outdated = {row.system_id: rows[row.system_id] for row in found if not row.is_known}
        if outdated:
            rows |= known_rows.rebuild(lake, outdated, latest=latest)
        rows = {system_id: known_rows.without_future(table, latest) for system_id, table in rows.items()}
        digests = {row.system_id: _without_future(row.digests or {}, latest) if row.is_known else {} for row in found}
        last = {
            row.system_id: None if row.last_snapshot_at and row.last_snapshot_at > latest else row.last_snapshot_at
            for row in found
        }
        return cls(rows, digests, last)

    def digests_of(self, system_id: str) -> dict[str, Any]:
        """Returns the digests of the files of the system's newest snapshot, by file name."""
        return self.digests[system_id]

    def rows_of(self, system_ids: Iterable[str]) -> pa.Table:
        """Returns the known rows of several systems in one table, with `system_id`."""
        return known_rows.join({system_id: self.rows[system_id] for system_id in system_ids})

    def after(self, rows: pa.Table, ingested: dict[int, Fetched]) -> dict[str, SystemState]:
        """Returns the states of the systems of `ingested` after the batch; `rows`: KNOWN_BY_SYSTEM of those read."""
        newest: dict[str, Fetched] = {}
        for one in ingested.values():
            other = newest.get(one.upload.system_id)
            if other is None or (one.upload.snapshot_at, one.upload.id) > (other.upload.snapshot_at, other.upload.id):
                newest[one.upload.system_id] = one
        tables = known_rows.split(rows, sorted(newest))
        states = {}
        for system_id, one in newest.items():
            at = one.upload.snapshot_at
            last = self.last_snapshot_at[system_id]
            digests = dict(self.digests[system_id])
            for name, digest in one.digests.items():
                if name not in digests or datetime.fromisoformat(digests[name]["at"]) <= at:
                    digests[name] = {"sha256": digest, "at": at.isoformat()}
            table = tables[system_id] if tables[system_id].num_rows else self.rows[system_id]
            if one.skipped:
                table = known_rows.confirm(table, digests)
            states[system_id] = SystemState(
                known_rows.encode(table), table.num_rows, digests, max(at, last) if last else at
            )
        return states


def _without_future(digests: dict[str, Any], latest: datetime) -> dict[str, Any]:
    return {name: one for name, one in digests.items() if datetime.fromisoformat(one["at"]) <= latest}

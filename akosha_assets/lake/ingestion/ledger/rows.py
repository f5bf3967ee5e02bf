"""Rows of the ledger as its readers get them."""

from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.states import UploadState


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    """One row of `uploads`; the columns are described in `schema.py`."""

    id: int
    system_id: str
    upload_id: str
    layout: str
    prefix: str
    revision: str
    state: UploadState
    found_by: str
    bytes: int
    snapshot_at: datetime
    seen_at: datetime
    requeued_at: datetime | None
    arrival_day: date
    not_before: datetime | None
    batch_id: int | None
    batch_limit: int
    attempts: int
    claimed_at: datetime | None
    ingested_at: datetime | None
    searchable_at: datetime | None
    removed_at: datetime | None
    run_id: str | None
    hot_version: int | None
    reason: str | None
    message: str | None
    sample: str | None
    rows_read: int | None
    new_rows: int | None
    changed_rows: int | None
    unchanged_rows: int | None
    absent_rows: int | None
    counts: dict[str, Any] | None

    @staticmethod
    def of(row: sa.Row[Any]) -> "UploadRow":
        """Converts a `row` with every column of `uploads`."""
        values = {name: row._mapping[name] for name in _UPLOAD_COLUMNS}
        return UploadRow(**values | {"state": UploadState(row.state)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRow:
    """One row of `systems`; the columns are described in `schema.py`."""

    system_id: str
    first_seen_at: datetime
    last_upload_at: datetime | None
    last_snapshot_at: datetime | None
    batch_id: int | None
    is_known: bool
    known_rows: int
    digests: dict[str, Any] | None

    @staticmethod
    def of(row: sa.Row[Any]) -> "SystemRow":
        """Converts a `row` with every column of `systems`."""
        return SystemRow(**{name: row._mapping[name] for name in _SYSTEM_COLUMNS})


_UPLOAD_COLUMNS = tuple(field.name for field in fields(UploadRow))
_SYSTEM_COLUMNS = tuple(field.name for field in fields(SystemRow))

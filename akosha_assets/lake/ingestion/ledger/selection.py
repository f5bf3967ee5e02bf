"""Selects the uploads of the next batch: fair between systems, with limits on uploads, bytes and known rows."""

from dataclasses import replace
from datetime import date, datetime

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger import plausible
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.schema import systems, uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.ingestion.snapshot_times import corrected_snapshot_time
from akosha_assets.lake.settings import LakeSettings

# The most known rows of all systems of a batch, which are held in memory. A larger system is alone in its batch.
BATCH_KNOWN_ROWS = 1_000_000


def select_uploads(
    connection: sa.Connection, settings: LakeSettings, *, now: datetime, arrival_day: date | None
) -> list[UploadRow]:
    """Returns waiting uploads of systems that are in no other batch; with `arrival_day` only those of that day.

    Takes one upload of every system, then a second one of each: no system waits behind one that sent thousands.
    """
    due = plausible.is_due(now)
    if arrival_day is not None:
        due = sa.and_(due, uploads.c.arrival_day == arrival_day)
    busy = sa.select(systems.c.system_id).where(systems.c.batch_id.is_not(None))
    turn = sa.func.row_number().over(partition_by=uploads.c.system_id, order_by=(uploads.c.snapshot_at, uploads.c.id))
    # All waiting uploads are sorted, so only the columns for sorting are read.
    ranked = sa.select(uploads.c.id, turn.label("turn")).where(due, uploads.c.system_id.not_in(busy)).subquery()
    first = sa.select(ranked).order_by(ranked.c.turn, ranked.c.id).limit(settings.batch_uploads).subquery()
    query = (
        sa.select(uploads, first.c.turn, sa.func.coalesce(systems.c.known_rows, 0).label("known_rows"))
        .join(first, first.c.id == uploads.c.id)
        .join(systems, systems.c.system_id == uploads.c.system_id, isouter=True)
        .order_by(first.c.turn, uploads.c.id)
    )
    rows = connection.execute(query).all()
    others_wait = len({row.system_id for row in rows}) > 1
    chosen: list[UploadRow] = []
    known_rows: dict[str, int] = {}
    total_bytes = 0
    for row in rows:
        if others_wait and row.turn > settings.batch_system_uploads:
            continue
        known_with_row = sum((known_rows | {row.system_id: row.known_rows}).values())
        if chosen and (
            total_bytes + row.bytes > settings.batch_bytes
            or known_with_row > BATCH_KNOWN_ROWS
            or row.batch_limit != chosen[0].batch_limit
            or len(chosen) >= chosen[0].batch_limit
        ):
            continue
        chosen.append(UploadRow.of(row))
        known_rows[row.system_id] = row.known_rows
        total_bytes += row.bytes
    return [_corrected(one, now) for one in chosen]


def set_unknown_ages(connection: sa.Connection, *, now: datetime) -> None:
    """Lets uploads that were found while the clock was wrong wait since `now`."""
    is_unknown = sa.and_(uploads.c.state == UploadState.WAITING, sa.not_(plausible.is_age_known(now)))
    connection.execute(sa.update(uploads).where(is_unknown).values(requeued_at=now))


def _corrected(upload: UploadRow, now: datetime) -> UploadRow:
    times = {"snapshot_at": upload.snapshot_at, "seen_at": upload.seen_at, "now": now}
    return replace(upload, snapshot_at=corrected_snapshot_time(upload.upload_id, **times))

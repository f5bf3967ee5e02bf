"""Batches of uploads under a lease: claim, renew, begin to commit, finish, release, recover.

A batch belongs to its owner until its lease ends; every step checks the owner in the same transaction. A lane is a
small number that no two live batches share; it identifies the batch's transactions in Delta (`tables.Fence`).
`selection.py` selects the uploads of a batch.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from akosha_assets.lake.errors import LeaseLost
from akosha_assets.lake.ingestion.ledger import outages, plausible
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import SystemState, UploadOutcome, pause_after, upload_values
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.schema import batches, insert_for, known, systems, uploads
from akosha_assets.lake.ingestion.ledger.selection import select_uploads, set_unknown_ages
from akosha_assets.lake.ingestion.ledger.states import LIVE, BatchState, UploadState
from akosha_assets.lake.tables import Fence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Uploads that only the owner of the batch may ingest until the lease ends."""

    id: int
    lane: int
    owner: str
    uploads: list[UploadRow] = field(repr=False)

    @property
    def fence(self) -> Fence:
        """The place of the batch in the sequence of commits of its lane."""
        return Fence(f"ingest/{self.lane}", self.id)


def claim(ledger: Ledger, *, run_id: str, now: datetime, arrival_day: date | None = None) -> Batch | None:
    """Claims the next batch of waiting uploads; None when no upload can be claimed."""
    settings = ledger.settings
    with ledger.write() as connection:
        set_unknown_ages(connection, now=now)
        chosen = select_uploads(connection, settings, now=now, arrival_day=arrival_day)
        if not chosen:
            return None
        lanes = set(connection.scalars(sa.select(batches.c.lane).where(batches.c.state.in_(LIVE))).all())
        lane = next(number for number in range(len(lanes) + 1) if number not in lanes)
        owner = uuid.uuid4().hex
        row = {
            "lane": lane,
            "owner": owner,
            "run_id": run_id,
            "state": BatchState.CLAIMED,
            "lease_until": now + timedelta(seconds=settings.lease_seconds),
            "claimed_at": now,
            "uploads": len(chosen),
        }
        batch_id: int = connection.execute(sa.insert(batches).values(**row)).inserted_primary_key[0]  # type: ignore[index]
        ids = [one.id for one in chosen]
        for start in range(0, len(ids), 500):
            part = uploads.c.id.in_(ids[start : start + 500])
            connection.execute(
                sa.update(uploads)
                .where(part)
                .values(state=UploadState.CLAIMED, batch_id=batch_id, claimed_at=now, run_id=run_id)
            )
        insert: Any = insert_for(connection)(systems)
        names = sorted({one.system_id for one in chosen})
        new = [{"system_id": name, "first_seen_at": now, "batch_id": batch_id} for name in names]
        connection.execute(insert.on_conflict_do_update(index_elements=["system_id"], set_={"batch_id": batch_id}), new)
        return Batch(batch_id, lane, owner, chosen)


def renew(ledger: Ledger, batch: Batch, *, now: datetime) -> None:
    """Extends the lease until `lease_seconds` after `now`.

    Raises:
        LeaseLost: another run took over the batch.
    """
    with ledger.write() as connection:
        _extend_or_raise(connection, batch, lease_until=now + timedelta(seconds=ledger.settings.lease_seconds))


def begin_commit(ledger: Ledger, batch: Batch, *, now: datetime) -> None:
    """Records that rows of the batch may be in the tables: after a crash its systems are compared with the tables.

    Raises:
        LeaseLost: another run took over the batch.
    """
    with ledger.write() as connection:
        _extend_or_raise(
            connection,
            batch,
            state=BatchState.COMMITTING,
            lease_until=now + timedelta(seconds=ledger.settings.lease_seconds),
        )


def finish(
    ledger: Ledger,
    batch: Batch,
    outcomes: Mapping[int, UploadOutcome],
    states: Mapping[str, SystemState],
    *,
    rows: int,
    now: datetime,
) -> None:
    """Ends the batch: stores the outcomes of uploads and the states of systems in one transaction.

    Uploads without an outcome wait again.

    Raises:
        LeaseLost: another run took over the batch.
    """
    with ledger.write() as connection:
        _extend_or_raise(connection, batch, state=BatchState.DONE, finished_at=now, rows=rows)
        by_id = {one.id: one for one in batch.uploads}
        ended = [upload_values(by_id[ref], outcome, ledger.settings, now=now) for ref, outcome in outcomes.items()]
        if ended:
            connection.execute(sa.update(uploads).where(uploads.c.id == sa.bindparam("ref")), ended)
        unfinished = sa.and_(uploads.c.batch_id == batch.id, uploads.c.state == UploadState.CLAIMED)
        connection.execute(sa.update(uploads).where(unfinished).values(state=UploadState.WAITING, batch_id=None))
        if states:
            connection.execute(
                sa.update(systems).where(systems.c.system_id == sa.bindparam("ref")),
                [
                    {
                        "ref": name,
                        "is_known": True,
                        "known_rows": state.known_rows,
                        "digests": state.digests,
                        "last_snapshot_at": state.last_snapshot_at,
                        "last_upload_at": now,
                    }
                    for name, state in states.items()
                ],
            )
            insert: Any = insert_for(connection)(known)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["system_id"], set_={"rows": insert.excluded.rows}),
                [{"system_id": name, "rows": state.known} for name, state in states.items()],
            )
        connection.execute(sa.update(systems).where(systems.c.batch_id == batch.id).values(batch_id=None))


def release(
    ledger: Ledger, batch: Batch, *, error: str, at_fault: bool, is_paused: bool = False, now: datetime
) -> None:
    """Marks the batch as failed; its uploads wait again.

    With `at_fault` one of them may be the cause: they are claimed in smaller batches, and a single upload has failed an
    attempt. With `is_paused` a single upload waits longer after each attempt.
    """
    with ledger.write() as connection:
        row = connection.execute(
            sa.select(batches).where(batches.c.id == batch.id, batches.c.owner == batch.owner)
        ).first()
        if row is not None and row.state in LIVE:
            _release(connection, ledger, row, error, at_fault=at_fault, now=now)
            if at_fault and is_paused and row.uploads == 1:
                ref = batch.uploads[0]
                pause = {"not_before": now + pause_after(ref.attempts + 1)}
                connection.execute(
                    sa.update(uploads)
                    .where(uploads.c.id == ref.id, uploads.c.state == UploadState.WAITING)
                    .values(**pause)
                )


def recover(ledger: Ledger, fence_off: Callable[[Fence], None], *, now: datetime) -> int:
    """Releases the batches whose lease has ended; returns their number.

    A batch that had begun to commit is first fenced off in every table, so none of its rows can be committed later.
    """
    with ledger.write() as connection:
        has_ended = plausible.has_lease_ended(now, ledger.settings.lease_seconds)
        expired = connection.execute(sa.select(batches).where(batches.c.state.in_(LIVE), has_ended)).all()
        for row in expired:
            # Now the former owner can neither begin to commit nor renew, and nobody else can recover the batch.
            owner = {"owner": uuid.uuid4().hex, "lease_until": now + timedelta(seconds=ledger.settings.lease_seconds)}
            connection.execute(sa.update(batches).where(batches.c.id == row.id).values(**owner))
        fences = {}
        for row in expired:
            if row.state == BatchState.COMMITTING:
                values = {
                    **dict(row._mapping),
                    "owner": "recovery",
                    "state": BatchState.DONE,
                    "uploads": 0,
                    "finished_at": now,
                }
                del values["id"]
                fences[row.id] = connection.execute(sa.insert(batches).values(**values)).inserted_primary_key[0]  # type: ignore[index]
    for row in expired:
        if row.id in fences:
            fence_off(Fence(f"ingest/{row.lane}", fences[row.id]))
        with ledger.write() as connection:
            _release(connection, ledger, row, "its run died or lost the lease", at_fault=True, now=now)
    return len(expired)


def _release(
    connection: Connection, ledger: Ledger, batch: Row[Any], error: str, *, at_fault: bool, now: datetime
) -> None:
    done = {"state": BatchState.FAILED, "finished_at": now, "error": error}
    connection.execute(sa.update(batches).where(batches.c.id == batch.id).values(**done))
    if batch.state == BatchState.COMMITTING:
        connection.execute(sa.update(systems).where(systems.c.batch_id == batch.id).values(is_known=False))
    connection.execute(sa.update(systems).where(systems.c.batch_id == batch.id).values(batch_id=None))
    claimed = sa.and_(uploads.c.batch_id == batch.id, uploads.c.state == UploadState.CLAIMED)
    if not at_fault:
        connection.execute(sa.update(uploads).where(claimed).values(state=UploadState.WAITING, batch_id=None))
        return
    is_alone = batch.uploads == 1
    connection.execute(
        sa.update(uploads)
        .where(claimed)
        .values(
            state=UploadState.WAITING,
            batch_id=None,
            batch_limit=max(1, batch.uploads // 8),
            attempts=uploads.c.attempts + int(is_alone),
            message=error,
        )
    )
    if is_alone:
        exhausted = sa.and_(
            uploads.c.state == UploadState.WAITING,
            uploads.c.attempts >= ledger.settings.max_attempts,
            uploads.c.batch_limit == 1,
        )
        quarantine = sa.update(uploads).where(exhausted)
        quarantine = quarantine.values(state=UploadState.QUARANTINED, reason="attempts_exhausted")
        for system_id, upload_id in connection.execute(quarantine.returning(uploads.c.system_id, uploads.c.upload_id)):
            extra = {"reason": "attempts_exhausted", "cause": error}
            logger.warning("upload quarantined: %s", f"{system_id}/{upload_id}", extra=extra)


def _extend_or_raise(connection: Connection, batch: Batch, **values: Any) -> None:
    ours = sa.and_(batches.c.id == batch.id, batches.c.owner == batch.owner, batches.c.state.in_(LIVE))
    if connection.execute(sa.update(batches).where(ours).values(**values)).rowcount != 1:
        raise LeaseLost(batch.id)


def anything_due(ledger: Ledger, *, now: datetime) -> bool:
    """Whether an upload can be claimed or a batch recovered at `now`. False during the pause after an outage."""
    due = plausible.is_due(now)
    free = sa.select(uploads.c.id).join(systems, systems.c.system_id == uploads.c.system_id, isouter=True)
    has_ended = plausible.has_lease_ended(now, ledger.settings.lease_seconds)
    expired = sa.select(batches.c.id).where(batches.c.state.in_(LIVE), has_ended)
    outage = outages.find(ledger, "ingest")
    # A failure in the future was recorded by a clock that was ahead.
    if outage is not None and outage.last_at <= now < outage.retry_at:
        return False
    with ledger.read() as connection:
        return any(
            connection.execute(query.limit(1)).first()
            for query in (free.where(due, systems.c.batch_id.is_(None)), expired)
        )

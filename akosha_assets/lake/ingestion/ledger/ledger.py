"""The ledger of ingestion: one row per upload with its state and reason, counters, and key-value pairs.

    arriving ──manifest──▶ waiting ──claim──▶ claimed ──▶ ingested
       ▲                      ▲                  │ │└────▶ quarantined ──redrive, other objects──▶ waiting
       │                      └──lease ends, or a transient failure
       └──a file of the manifest has not come yet──┘

Batches are in `claims.py`, the tables in `schema.py`, the database in `database.py`.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from akosha_assets.lake.errors import AmbiguousUpload, InvalidRequest, NotFound
from akosha_assets.lake.ingestion.ledger.database import LedgerDatabase
from akosha_assets.lake.ingestion.ledger.found_uploads import (
    INVALID_NAMES,
    UNTRIED,
    Change,
    FoundUpload,
    KnownUpload,
    columns_of,
    decide,
    revision_of,
)
from akosha_assets.lake.ingestion.ledger.rows import SystemRow, UploadRow
from akosha_assets.lake.ingestion.ledger.schema import counters, insert_for, meta, systems, uploads
from akosha_assets.lake.ingestion.ledger.states import UploadFilter, UploadState
from akosha_assets.lake.reasons import REASONS

LOOKUP_ROWS = 500
# The most systems that are listed for an ambiguous upload id.
RECEIPTS_AT_ONCE = 100
# Key of the time at which a sweep last reached the end of the inbox.
SWEEP_ENDED = "sweep_ended_at"


@dataclass(frozen=True)
class Page:
    """Uploads, newest first, and the cursor of the next page; None on the last."""

    uploads: list[UploadRow]
    cursor: int | None


class Ledger(LedgerDatabase):
    """An open ledger. Safe to share between threads."""

    def add(self, found: Iterable[FoundUpload], *, found_by: str, now: datetime) -> int:
        """Adds the uploads that are not known yet or were written again, completes those that were arriving, and lets
        those wait again that could not be ingested with the objects they had; returns how many.
        """
        added = 0
        batch: list[FoundUpload] = []
        for one in found:
            batch.append(one)
            if len(batch) == LOOKUP_ROWS:
                added += self._add(batch, found_by, now)
                batch = []
        return added + (self._add(batch, found_by, now) if batch else 0)

    def _add(self, found: list[FoundUpload], found_by: str, now: datetime) -> int:
        changes = self._changes(found)
        if not changes:
            return 0
        rows: list[dict[str, Any]] = []
        with self.write() as connection:
            for one, known, change in changes:
                values = columns_of(one, known, change, now)
                if change in (Change.ADDED, Change.COMPLETED):
                    values["found_by"] = found_by
                if change is Change.ADDED:
                    rows.append(values)
                elif known is not None:
                    # Another process may have changed the row since it was read.
                    is_same = sa.and_(uploads.c.id == known.id, uploads.c.state == known.state)
                    connection.execute(sa.update(uploads).where(is_same).values(**values))
            if rows:
                insert: Any = insert_for(connection)(uploads)
                connection.execute(insert.on_conflict_do_nothing(index_elements=["prefix", "revision"]), rows)
            added = sum(change.is_arrival for _, _, change in changes)
            if added:
                _count(connection, f"found_by_{found_by}", added)
        return added

    def _changes(self, found: list[FoundUpload]) -> list[tuple[FoundUpload, KnownUpload | None, Change]]:
        """The uploads of `found` that change the ledger, each with the newest row of its prefix."""
        prefixes = [one.prefix for one in found]
        columns = (uploads.c.prefix, uploads.c.id, uploads.c.revision, uploads.c.state, uploads.c.reason)
        query = sa.select(*columns, uploads.c.objects).where(uploads.c.prefix.in_(prefixes)).order_by(uploads.c.id)
        with self.read() as connection:
            rows = connection.execute(query).all()
        newest = {row[0]: row for row in rows}
        revisions = {(row[0], row[2]) for row in rows}
        changes: list[tuple[FoundUpload, KnownUpload | None, Change]] = []
        for one in dict.fromkeys(found):
            row = newest.get(one.prefix)
            if row is not None and row[2] == one.revision and (row[5] or "") == one.objects:
                # Nearly all uploads of a listing.
                continue
            known = None if row is None else KnownUpload(*row[1:])
            change = decide(one, known, is_old_revision=(one.prefix, one.revision) in revisions)
            if change is Change.ADDED:
                revision = revision_of(one, known)
                if (one.prefix, revision) in revisions:
                    continue
                one = replace(one, revision=revision)
            if change is not Change.NONE:
                revisions.add((one.prefix, one.revision))
                changes.append((one, known, change))
        return changes

    def completed_prefixes(self, prefixes: Collection[str]) -> set[str]:
        """Those of `prefixes` whose upload is known and has its completing object."""
        query = sa.select(uploads.c.prefix).where(uploads.c.prefix.in_(prefixes), uploads.c.revision != "")
        with self.read() as connection:
            return set(connection.scalars(query))

    def uploads(
        self,
        *,
        state: str | None = None,
        system_id: str | None = None,
        reason: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
        now: datetime | None = None,
    ) -> Page:
        """Returns matching uploads, newest first. State `incomplete`: arriving for longer than the grace period."""
        query = sa.select(uploads).order_by(uploads.c.id.desc()).limit(limit + 1)
        if state == UploadFilter.INCOMPLETE:
            query = query.where(
                uploads.c.state == UploadState.ARRIVING,
                uploads.c.seen_at < self._incomplete_before(now or datetime.now(UTC)),
            )
        elif state is not None:
            if state not in tuple(UploadFilter):
                expected = ", ".join(UploadFilter)
                raise InvalidRequest("state", f"{state!r} is not a state; expected one of {expected}")
            query = query.where(uploads.c.state == state)
        if system_id is not None:
            query = query.where(uploads.c.system_id == system_id)
        if reason is not None:
            query = query.where(uploads.c.reason == _checked_reason(reason))
        if cursor is not None:
            query = query.where(uploads.c.id < cursor)
        with self.read() as connection:
            rows = [UploadRow.of(row) for row in connection.execute(query)]
        return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)

    def receipt(self, upload_id: str, *, system_id: str | None = None) -> UploadRow:
        """Returns the newest revision of an upload. Systems choose the ids of their uploads, so an id may be ambiguous.

        Raises:
            NotFound: no upload with this id is known, or none of this system.
            AmbiguousUpload: several systems have an upload with this id, and `system_id` is None.
        """
        newest = (
            sa.select(sa.func.max(uploads.c.id)).where(uploads.c.upload_id == upload_id).group_by(uploads.c.system_id)
        )
        if system_id is not None:
            newest = newest.where(uploads.c.system_id == system_id)
        query = sa.select(uploads).where(uploads.c.id.in_(newest)).order_by(uploads.c.system_id).limit(RECEIPTS_AT_ONCE)
        with self.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            raise NotFound("upload", upload_id if system_id is None else f"{system_id}/{upload_id}")
        if len(rows) > 1:
            raise AmbiguousUpload(upload_id, {row.system_id: row.state for row in rows})
        return UploadRow.of(rows[0])

    def redrive(
        self,
        *,
        upload_id: str | None = None,
        reason: str | None = None,
        system_id: str | None = None,
        dry_run: bool,
        now: datetime,
    ) -> list[str]:
        """Lets matching quarantined uploads wait again, as if found at `now`; returns their ids.

        A dry run changes nothing.

        Raises:
            InvalidRequest: `reason` does not exist.
        """
        matches = [
            uploads.c.state == UploadState.QUARANTINED,
            uploads.c.reason.not_in(INVALID_NAMES),
        ]
        filters = {
            "upload_id": upload_id,
            "reason": reason if reason is None else _checked_reason(reason),
            "system_id": system_id,
        }
        matches += [uploads.c[name] == value for name, value in filters.items() if value is not None]
        with self.write() as connection:
            ids = connection.scalars(sa.select(uploads.c.upload_id).where(*matches).order_by(uploads.c.id)).all()
            if not dry_run:
                clean = UNTRIED | {"requeued_at": now}
                connection.execute(sa.update(uploads).where(*matches).values(**clean))
        return list(ids)

    def count(self, name: str, by: int = 1) -> None:
        """Adds `by` to the counter `name`."""
        with self.write() as connection:
            _count(connection, name, by)

    def counts(self) -> dict[str, int]:
        """Returns every counter by name."""
        with self.read() as connection:
            return {row.name: row.value for row in connection.execute(sa.select(counters))}

    def remembered(self, key: str) -> str | None:
        """Returns the value of `key`; None if it was never set."""
        with self.read() as connection:
            return connection.scalar(sa.select(meta.c.value).where(meta.c.key == key))

    def remember(self, key: str, value: str) -> None:
        """Sets the value of `key`."""
        with self.write() as connection:
            insert: Any = insert_for(connection)(meta).values(key=key, value=value)
            connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": value}))

    def update(self, key: str, change: Callable[[str | None], str | None]) -> str | None:
        """Sets the value of `key` to `change(value)` in one transaction; returns the new value.

        None is stored as the empty text.
        """
        with self.write() as connection:
            value = change(connection.scalar(sa.select(meta.c.value).where(meta.c.key == key)))
            insert: Any = insert_for(connection)(meta).values(key=key, value=value or "")
            connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": value or ""}))
            return value

    def systems(self, *, limit: int = 100, after: str = "") -> list[SystemRow]:
        """Returns systems in order of their ids, starting after the id `after`."""
        query = sa.select(systems).where(systems.c.system_id > after).order_by(systems.c.system_id).limit(limit)
        with self.read() as connection:
            return [SystemRow.of(row) for row in connection.execute(query)]

    def _incomplete_before(self, now: datetime) -> datetime:
        return now - timedelta(seconds=self.settings.incomplete_grace_seconds)


def _checked_reason(reason: str) -> str:
    if reason not in REASONS:
        raise InvalidRequest("reason", f"{reason!r} is not a reason; expected one of {', '.join(REASONS)}")
    return reason


def _count(connection: Connection, name: str, by: int) -> None:
    insert = insert_for(connection)(counters).values(name=name, value=by)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": counters.c.value + by}))

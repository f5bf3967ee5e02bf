"""Removes ingested uploads from the inbox after the time in which they can be replayed. Never others.

The manifest is removed last: a half-removed upload is still listed with the revision that the ledger has, and the next
run removes the rest.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion.ledger.found_uploads import etag_of
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.ingestion.uploads import ROOT, part_of
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

logger = logging.getLogger(__name__)


# After this many failures in a row the inbox itself is checked: it may be what fails.
FAILURES_IN_A_ROW = 3
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Expired:
    """Expired uploads and their bytes; removed from the inbox unless it was a dry run.

    `failed`: uploads that could not be removed, with the reason.
    """

    uploads: list[str]
    bytes: int
    dry_run: bool
    failed: dict[str, str]


def expire(settings: LakeSettings, ledger: Ledger, *, now: datetime, dry_run: bool, limit: int = 10_000) -> Expired:
    """Removes at most `limit` uploads that were ingested more than `inbox_keep_days` ago. A dry run only lists them.

    An object that was written again belongs to a later revision and is left alone. An upload that cannot be removed is
    reported, and the others are removed.

    Raises:
        StoreUnavailable: the inbox did not answer; the ledger records what was removed until then.
    """
    store = ObjectStore(settings.inbox())
    names: list[str] = []
    failed: dict[str, str] = {}
    total = in_a_row = 0
    for row in _due(settings, ledger, now):
        if len(names) >= limit:
            break
        completing = row.prefix if row.layout == "bare" else f"{row.prefix}/manifest.json"
        try:
            present = store.head(completing)
            if present is not None and present.etag != etag_of(row.revision):
                continue
            if not dry_run:
                _remove(store, row, completing)
        except StoreUnavailable as error:
            failed[row.upload_id] = str(error)
            logger.warning("an upload could not be removed", extra={"upload": row.upload_id, "cause": str(error)})
            in_a_row += 1
            if in_a_row == FAILURES_IN_A_ROW:
                store.check_folder(ROOT)
            continue
        in_a_row = 0
        names.append(row.upload_id)
        total += row.bytes
        if not dry_run:
            with ledger.write() as connection:
                connection.execute(sa.update(uploads).where(uploads.c.id == row.id).values(removed_at=now))
    if not dry_run:
        extra = {"uploads": len(names), "bytes": total, "failed": len(failed)}
        logger.info("removed uploads from the inbox", extra=extra)
    return Expired(names, total, dry_run, failed)


def _due(settings: LakeSettings, ledger: Ledger, now: datetime) -> Iterator[Row[Any]]:
    """Expired uploads, oldest first."""
    later = uploads.alias()
    due = sa.and_(
        uploads.c.state == "ingested",
        uploads.c.removed_at.is_(None),
        uploads.c.ingested_at < now - timedelta(days=settings.inbox_keep_days),
        sa.not_(
            sa.exists().where(
                later.c.prefix == uploads.c.prefix, later.c.id > uploads.c.id, later.c.removed_at.is_(None)
            )
        ),
    )
    query = sa.select(
        uploads.c.id, uploads.c.upload_id, uploads.c.prefix, uploads.c.revision, uploads.c.bytes, uploads.c.layout
    )
    last = 0
    while True:
        with ledger.read() as connection:
            page = query.where(due, uploads.c.id > last).order_by(uploads.c.id).limit(ROWS_AT_ONCE)
            rows = connection.execute(page).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].id


def _remove(store: ObjectStore, row: Row[Any], completing: str) -> None:
    """Removes the objects of the upload; the object that completes it last."""
    if row.layout != "bare":
        for item in list(store.list(row.prefix)):
            part = part_of(item.key)
            if part is not None and part.prefix == row.prefix and not part.completes:
                store.delete(item.key)
    store.delete(completing)

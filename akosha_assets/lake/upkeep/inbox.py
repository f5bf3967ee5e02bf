"""Removes uploads from the inbox once they were taken in and their time to be replayed is over. Never one that was not.

The manifest goes last: an upload that is half removed is still listed under the revision that the ledger knows, and the
next pass removes the rest.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.ingestion.uploads import part_of
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expired:
    """Uploads whose time is over and their bytes; removed from the inbox unless it was a dry run."""

    uploads: list[str]
    bytes: int
    dry_run: bool


def expire(settings: LakeSettings, ledger: Ledger, *, now: datetime, dry_run: bool, limit: int = 10_000) -> Expired:
    """Uploads ingested more than `inbox_keep_days` ago are not in the inbox any more. A dry run only names them.

    An object that was written again since then belongs to a later revision, and is left alone.

    Raises:
        StoreUnavailable: the inbox did not answer; what was removed until then is in the ledger.
    """
    due = sa.and_(
        uploads.c.state == "ingested",
        uploads.c.removed_at.is_(None),
        uploads.c.ingested_at < now - timedelta(days=settings.inbox_keep_days),
    )
    query = sa.select(
        uploads.c.id, uploads.c.upload_id, uploads.c.prefix, uploads.c.revision, uploads.c.bytes, uploads.c.layout
    )
    with ledger.read() as connection:
        rows = connection.execute(query.where(due).order_by(uploads.c.id).limit(limit)).all()
    store = ObjectStore(settings.inbox())
    named, total = [], 0
    for row in rows:
        completing = row.prefix if row.layout == "bare" else f"{row.prefix}/manifest.json"
        present = store.head(completing)
        if present is not None and present.etag != row.revision:
            continue
        named.append(row.upload_id)
        total += row.bytes
        if dry_run:
            continue
        if row.layout != "bare":
            for item in list(store.list(row.prefix)):
                part = part_of(item.key)
                if part is not None and part.prefix == row.prefix and not part.completes:
                    store.delete(item.key)
        store.delete(completing)
        with ledger.write() as connection:
            connection.execute(sa.update(uploads).where(uploads.c.id == row.id).values(removed_at=now))
    if not dry_run:
        logger.info("removed uploads from the inbox", extra={"uploads": len(named), "bytes": total})
    return Expired(named, total, dry_run)

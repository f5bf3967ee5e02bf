"""Records when the rows of an upload became searchable: once, by the first service that serves them.

The ledger records it, because a service that starts later cannot know when another one served a version first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads

# Versions of the hot table that one transaction records.
VERSIONS_MAX = 200


@dataclass(frozen=True)
class SearchableUpload:
    """An upload whose `searchable_at` was recorded."""

    system_id: str
    upload_id: str
    ingested_at: datetime
    hot_version: int
    searchable_at: datetime


def record_searchable(
    ledger: Ledger, served_at: Callable[[int], datetime | None], newest: int
) -> list[SearchableUpload]:
    """Sets `searchable_at` of uploads in hot table versions up to `newest`, for at most `VERSIONS_MAX` versions.

    Returns the uploads that had none before. `served_at` returns when this service first served a version or a later
    one. `searchable_at` is never before `ingested_at`, although the rows are committed before the ledger records it.
    """
    unrecorded = sa.and_(uploads.c.hot_version.is_not(None), uploads.c.searchable_at.is_(None))
    query = sa.select(uploads.c.hot_version).where(unrecorded, uploads.c.hot_version <= newest).distinct()
    with ledger.read() as connection:
        versions = connection.scalars(query.order_by(uploads.c.hot_version).limit(VERSIONS_MAX)).all()
    times = {version: at for version in versions if (at := served_at(version)) is not None}
    if not times:
        return []
    columns = [uploads.c[name] for name in ("system_id", "upload_id", "ingested_at", "hot_version", "searchable_at")]
    recorded: list[SearchableUpload] = []
    with ledger.write() as connection:
        for version, at in times.items():
            later = sa.case((uploads.c.ingested_at > at, uploads.c.ingested_at), else_=at)
            change = sa.update(uploads).where(unrecorded, uploads.c.hot_version == version)
            rows = connection.execute(change.values(searchable_at=later).returning(*columns))
            recorded += [SearchableUpload(*row) for row in rows.tuples()]
    return recorded

"""Recently quarantined uploads: how many, why, and which."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState

# An alert lists at most this many uploads by system and id, the newest ones.
NAMED_UPLOADS = 5


@dataclass(frozen=True)
class Quarantines:
    """Quarantined uploads by reason code, and `system/upload` of the newest ones, newest first."""

    by_reason: dict[str, int]
    newest: list[str]

    @property
    def total(self) -> int:
        """The number of quarantined uploads."""
        return sum(self.by_reason.values())


def find_recent(ledger: Ledger, *, since: datetime) -> Quarantines:
    """Returns the uploads that were quarantined after `since`; unclaimed ones were quarantined on discovery."""
    quarantined_at = sa.func.coalesce(uploads.c.claimed_at, uploads.c.seen_at)
    is_recent = sa.and_(uploads.c.state == UploadState.QUARANTINED, quarantined_at > since)
    by_reason = sa.select(uploads.c.reason, sa.func.count()).where(is_recent).group_by(uploads.c.reason)
    newest = sa.select(uploads.c.system_id, uploads.c.upload_id).where(is_recent).order_by(uploads.c.id.desc())
    with ledger.read() as connection:
        return Quarantines(
            dict(connection.execute(by_reason).tuples().all()),
            [f"{system}/{upload}" for system, upload in connection.execute(newest.limit(NAMED_UPLOADS)).tuples()],
        )

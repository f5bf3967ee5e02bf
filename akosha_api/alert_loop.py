"""A thread that looks for trouble every few seconds and tells people of it. It works while Dagster is down.

What trouble is, and who sends what when several processes look, is in `lake/watch`.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from akosha_api.background import Background
from akosha_api.settings import ApiSettings
from akosha_assets.lake import telemetry
from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.watch import conditions

logger = logging.getLogger(__name__)

TRACED_AT_ONCE = 1000


class AlertLoop(Background):
    """Looks every `alert_seconds`."""

    name = "watcher"

    def __init__(self, ledger: Callable[[], Ledger], replica: Replica, settings: ApiSettings):
        super().__init__(settings.alert_seconds)
        self.ledger, self.replica = ledger, replica
        self._traced_until = datetime.now(UTC)

    def _run(self) -> None:
        while self._rested(self.seconds):
            try:
                conditions.evaluate_and_notify(self.ledger())
                if telemetry.is_tracing():
                    self._trace_searchable()
            except (LedgerUnavailable, LedgerDamaged) as error:
                logger.warning("the ledger did not answer, so nothing could be watched", extra={"cause": str(error)})
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("looking for trouble failed")

    def _trace_searchable(self) -> None:
        """Uploads taken in since the last round, and served by now, get the last span of their trace."""
        query = (
            sa.select(uploads.c.system_id, uploads.c.upload_id, uploads.c.ingested_at, uploads.c.hot_version)
            .where(
                uploads.c.state == "ingested",
                uploads.c.ingested_at > self._traced_until,
                uploads.c.hot_version.is_not(None),
            )
            .order_by(uploads.c.ingested_at)
            .limit(TRACED_AT_ONCE)
        )
        with self.ledger().read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            reached = self.replica.reached_at(row.hot_version)
            if reached is None:
                return
            self._traced_until = row.ingested_at
            trace = telemetry.upload_trace(row.system_id, row.upload_id)
            named = {
                "akosha.upload_id": row.upload_id,
                "akosha.system_id": row.system_id,
                "akosha.hot_version": row.hot_version,
            }
            telemetry.spanned("become searchable", row.ingested_at, max(reached, row.ingested_at), named, trace=trace)

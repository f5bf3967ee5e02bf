"""A thread that looks for trouble every few seconds and tells people of it. It works while Dagster is down.

What trouble is, and who sends what when several processes look, is in `lake/watch`.
"""

import logging
from collections.abc import Callable

from akosha_api.background import Background
from akosha_api.settings import ApiSettings
from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.watch import conditions

logger = logging.getLogger(__name__)


class AlertLoop(Background):
    """Looks every `alert_seconds`."""

    name = "watcher"

    def __init__(self, ledger: Callable[[], Ledger], settings: ApiSettings):
        super().__init__(settings.alert_seconds)
        self.ledger = ledger

    def _run(self) -> None:
        while self._rested(self.seconds):
            try:
                conditions.evaluate_and_notify(self.ledger())
            except (LedgerUnavailable, LedgerDamaged) as error:
                logger.warning("the ledger did not answer, so nothing could be watched", extra={"cause": str(error)})
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("looking for trouble failed")

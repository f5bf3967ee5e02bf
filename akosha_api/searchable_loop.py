"""A thread that records in the ledger when uploads became searchable here, and ends their traces."""

import logging

from akosha_api.app_state import AppState
from akosha_api.background import Background
from akosha_assets.lake import telemetry
from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.ingestion.ledger.searchable import SearchableUpload, record_searchable
from akosha_assets.lake.telemetry import RateLimitedWarning

logger = logging.getLogger(__name__)


# One read of an index that is empty while nothing is new.
RECORD_SECONDS = 0.5


class SearchableLoop(Background):
    """Records every `RECORD_SECONDS`, and once more when the service ends."""

    name = "searchable"

    def __init__(self, state: AppState):
        super().__init__(RECORD_SECONDS)
        self.state = state
        self._not_recorded = RateLimitedWarning(logger, "when uploads became searchable could not be recorded")

    def _run(self) -> None:
        while self._sleep(self.seconds):
            self._record()
        self._record()

    def _record(self) -> None:
        replica = self.state.replica
        newest = replica.snapshot.tiers["hot"].version
        if newest is None or replica.reached_at(newest) is None:
            return
        try:
            while recorded := record_searchable(self.state.ledger(), replica.reached_at, newest):
                if telemetry.is_tracing():
                    for upload in recorded:
                        _trace(upload)
        except (LedgerUnavailable, LedgerDamaged) as error:
            self._not_recorded.warn(str(error))
        except Exception:  # the edge of the thread: the next round tries again
            logger.exception("recording when uploads became searchable failed")


def _trace(upload: SearchableUpload) -> None:
    attributes = {
        "akosha.upload_id": upload.upload_id,
        "akosha.system_id": upload.system_id,
        "akosha.hot_version": upload.hot_version,
    }
    trace_id = telemetry.upload_trace_id(upload.system_id, upload.upload_id)
    telemetry.record_span("become searchable", upload.ingested_at, upload.searchable_at, attributes, trace_id=trace_id)

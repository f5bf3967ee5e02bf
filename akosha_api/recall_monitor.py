"""A thread that measures now and then how many of the true neighbours a search finds, without getting in its way."""

import logging

import numpy as np

from akosha_api.background import Background
from akosha_api.metrics import RequestMetrics
from akosha_api.settings import ApiSettings
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.recall_probe import recall

logger = logging.getLogger(__name__)

PROBES = 5
# Of one core, what the scans of a measurement may take: questions that come meanwhile hardly notice.
SHARE = 0.05
# Between two looks whether everything is served, before the first measurement.
LOOK_SECONDS = 5.0


class RecallMonitor(Background):
    """Measures once everything is served and then every `recall_seconds`."""

    name = "prober"

    def __init__(self, replica: Replica, watched: RequestMetrics, settings: ApiSettings):
        super().__init__(settings.recall_seconds)
        self.replica, self.watched = replica, watched
        self._random = np.random.default_rng()

    def _run(self) -> None:
        wait = min(self.seconds, LOOK_SECONDS)
        while self._rested(wait):
            if not self.replica.is_settled:
                # A probe beside a load would slow it down and find no index to measure.
                continue
            try:
                measured = recall(self.replica.snapshot, probes=PROBES, random=self._random, pause=self._rest)
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("measuring the recall of what is served failed")
                wait = self.seconds
                continue
            if measured is not None:
                self.watched.recall.set(measured)
                wait = self.seconds

    def _rest(self, worked_seconds: float) -> bool:
        """After so much work a pause that keeps to the share; whether to go on."""
        return self._rested(worked_seconds * (1 / SHARE - 1))

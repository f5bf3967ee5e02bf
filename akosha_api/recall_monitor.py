"""A thread that measures the recall of searches from time to time, without slowing them down."""

import logging

import numpy as np

from akosha_api.background import Background
from akosha_api.metrics import RequestMetrics
from akosha_api.settings import ApiSettings
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.recall_probe import recall

logger = logging.getLogger(__name__)

PROBES = 5
# The share of one core that a measurement may take, so that searches hardly notice it.
CPU_SHARE = 0.05
# Seconds between two checks whether the replica has settled, before the first measurement.
CHECK_SECONDS = 5.0


class RecallMonitor(Background):
    """Measures once the replica has settled, and then every `recall_seconds`."""

    name = "recall"

    def __init__(self, replica: Replica, metrics: RequestMetrics, settings: ApiSettings):
        super().__init__(settings.recall_seconds)
        self.replica, self.metrics = replica, metrics
        self._random = np.random.default_rng()

    def _run(self) -> None:
        wait = min(self.seconds, CHECK_SECONDS)
        while self._sleep(wait):
            if not self.replica.is_settled:
                # A scan would slow the load down, and there is no index to measure yet.
                continue
            try:
                measured = recall(self.replica.snapshot, probes=PROBES, random=self._random, pause=self._pause)
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("measuring the recall failed")
                wait = self.seconds
                continue
            if measured is not None:
                self.metrics.recall.set(measured)
                wait = self.seconds

    def _pause(self, worked_seconds: float) -> bool:
        """Sleeps long enough to keep to `CPU_SHARE`; returns False if the thread must stop."""
        return self._sleep(worked_seconds * (1 / CPU_SHARE - 1))

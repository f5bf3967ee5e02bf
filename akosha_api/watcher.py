"""A thread that looks for trouble every few seconds and tells people of it. It works while Dagster is down.

What trouble is, and who sends what when several processes look, is in `lake/watch`.
"""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from akosha_assets.lake.ingestion.ledger import Ledger
from akosha_assets.lake.watch import conditions

logger = logging.getLogger(__name__)


class Watcher:
    """Looks every `seconds` from `start` until `stop`; never where `seconds` is 0."""

    def __init__(self, ledger: Callable[[], Ledger], seconds: float):
        self.ledger, self.seconds = ledger, seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """The thread runs."""
        if self.seconds:
            self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """The thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self.seconds):
            try:
                conditions.look_and_tell(self.ledger())
            except OperationalError as error:
                logger.warning("the ledger did not answer, so nothing could be watched", extra={"cause": str(error.orig)})
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("looking for trouble failed")

"""Whether the tables of the tiers can be read: their logs, opened at most once a minute and never waited for long.

A store may hang until its client gives up, so the reading runs in a thread of its own.
"""

import logging
import threading
import time
from functools import lru_cache

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tiers import TIERS

logger = logging.getLogger(__name__)

READ_EVERY_SECONDS = 60.0
# A caller waits this long for a reading before the store counts as not answering.
WAIT_SECONDS = 5.0


class TierProbe:
    """Reads the log of every tier table. Safe to share between threads."""

    def __init__(self, lake: Lake):
        self.lake = lake
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._errors: dict[str, str] = {}
        self._read_at: float | None = None

    def errors(self) -> dict[str, str]:
        """The error of each tier whose table log cannot be read, by tier; at most `READ_EVERY_SECONDS` old."""
        with self._lock:
            if self._thread is None and (
                self._read_at is None or time.monotonic() - self._read_at > READ_EVERY_SECONDS
            ):
                self._thread = threading.Thread(target=self._read, name="tier-probe", daemon=True)
                self._thread.start()
                self._thread.join(WAIT_SECONDS)
            if self._thread is None:
                return self._errors
            if self._thread.is_alive():
                no_answer = f"{self.lake.settings.lake()} did not answer within {WAIT_SECONDS:.0f} s"
                return dict.fromkeys(TIERS, no_answer)
            self._thread = None
            self._read_at = time.monotonic()
            return self._errors

    def _read(self) -> None:
        errors: dict[str, str] = {}
        for tier in TIERS:
            try:
                self.lake.open(f"lifecycle/{tier}")
            except LakeError as error:
                errors[tier] = str(error)
            except Exception as error:  # a damaged log may fail in any way
                logger.exception("a table log could not be read", extra={"tier": tier})
                errors[tier] = f"{type(error).__name__}: {error}"
        self._errors = errors


@lru_cache(maxsize=8)
def tier_probe(settings: LakeSettings) -> TierProbe:
    """The probe of this process for the lake of `settings`."""
    return TierProbe(Lake(settings))

"""The alert about the ledger itself. It is kept in memory, because alerts are stored in the ledger."""

import logging
import time
from datetime import datetime

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, delivery
from akosha_assets.lake.watch.alert_kinds import AlertState, Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition, StoredAlert

logger = logging.getLogger(__name__)

KEY = f"{Scope.LEDGER}/unreachable"
FIRES_AFTER_SECONDS = 60.0


class LedgerAlarm:
    """Sends one message once the ledger has not answered for `FIRES_AFTER_SECONDS`. For one thread of one process."""

    def __init__(self, settings: LakeSettings):
        self.settings = settings
        self._failing_since: float | None = None
        self._alert: StoredAlert | None = None
        self._next_attempt = 0.0

    def failed(self, error: Exception, *, now: datetime) -> None:
        """The ledger did not answer. Once that has lasted long enough, every channel was sent the message; a channel
        that did not accept it is tried again later.
        """
        seconds = time.monotonic()
        if self._failing_since is None:
            self._failing_since = seconds
        if seconds - self._failing_since < FIRES_AFTER_SECONDS:
            return
        if self._alert is None:
            self._alert = _firing(str(error), now)
            logger.error("alert fires: the ledger does not answer", extra={"alert": KEY, "cause": str(error)})
        if self._alert.pending and seconds >= self._next_attempt:
            self._send(self._alert, seconds)

    def answered(self, ledger: Ledger, *, now: datetime) -> None:
        """The ledger answers. If the alert fired, the ledger records it as resolved, and the next delivery says so."""
        alert, self._alert, self._failing_since = self._alert, None, None
        if alert is not None:
            condition = Condition(alert.key, alert.severity, alert.title, alert.detail, Runbook(alert.runbook))
            alerts.record_resolved(ledger, condition, fired_at=alert.fired_at, now=now, delivered=alert.delivered)

    def _send(self, alert: StoredAlert, seconds: float) -> None:
        channels = delivery.channels_by_digest(self.settings)
        delivered, error = delivery.send_to_all(channels, alert, self.settings.runbook_url)
        attempts = alert.attempts + bool(error)
        values = {"delivered": delivered, "pending": bool(error), "attempts": attempts, "error": error or None}
        self._alert = StoredAlert(**vars(alert) | values)
        self._next_attempt = seconds + delivery.pause_after(attempts).total_seconds()


def _firing(error: str, now: datetime) -> StoredAlert:
    return StoredAlert(
        key=KEY,
        severity=Severity.CRITICAL,
        state=AlertState.FIRING,
        title="The ledger does not answer",
        detail=error,
        runbook=Runbook.LEDGER_UNREACHABLE,
        fired_at=now,
        seen_at=now,
        resolved_at=None,
        delivered={},
        pending=True,
        attempts=0,
        next_attempt_at=None,
        error=None,
    )

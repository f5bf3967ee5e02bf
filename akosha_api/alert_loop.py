"""The thread that evaluates alerts every few seconds and delivers their messages. It works while Dagster is down.

What counts as a condition, and which of several processes sends a message, is decided in `lake/watch`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from akosha_api.background import Background
from akosha_api.settings import ApiSettings
from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.snapshot import TierView
from akosha_assets.lake.serving.states import ViewState
from akosha_assets.lake.watch import conditions, delivery
from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition
from akosha_assets.lake.watch.ledger_alarm import LedgerAlarm

logger = logging.getLogger(__name__)

# A tier must be unavailable for this long before its alert fires: the next refresh may read it again.
UNAVAILABLE_SECONDS = 60.0


class AlertLoop(Background):
    """Evaluates alerts every `alert_seconds`."""

    name = "alert-loop"

    def __init__(self, ledger: Callable[[], Ledger], replica: Replica, settings: ApiSettings):
        super().__init__(settings.alert_seconds)
        self.ledger, self.replica = ledger, replica
        # When each tier became unavailable, in monotonic seconds.
        self._unavailable_since: dict[str, float] = {}
        self._alarm = LedgerAlarm(replica.lake.settings)

    def _run(self) -> None:
        while self._sleep(self.seconds):
            try:
                self._round()
            except Exception:  # the edge of the thread: the next round tries again
                logger.exception("alerts could not be evaluated")

    def _round(self) -> None:
        tiers = self.replica.snapshot.tiers.values()
        found = of_replica(tiers, self._unavailable_since, seconds=time.monotonic())
        try:
            ledger = self.ledger()
            conditions.evaluate(ledger, now=datetime.now(UTC), extra=found, extra_scopes=[Scope.REPLICA])
            self._alarm.answered(ledger, now=datetime.now(UTC))
            delivery.deliver(ledger, now=datetime.now(UTC))
        except (LedgerUnavailable, LedgerDamaged) as error:
            logger.warning("the ledger did not answer, so no alert was evaluated", extra={"cause": str(error)})
            self._alarm.failed(error, now=datetime.now(UTC))


def of_replica(tiers: Iterable[TierView], unavailable_since: dict[str, float], *, seconds: float) -> list[Condition]:
    """Tiers that this process serves stale, incompletely or not at all. `unavailable_since` is updated to `seconds`."""
    problems = []
    is_followed = are_files_read = True
    for tier in tiers:
        if tier.state != ViewState.UNAVAILABLE:
            unavailable_since.pop(tier.name, None)
        elif seconds - unavailable_since.setdefault(tier.name, seconds) >= UNAVAILABLE_SECONDS:
            problems.append(f"{tier.name} {tier.doubt}")
            is_followed = False
        if tier.rows_set_aside:
            problems.append(f"{tier.name}: {tier.rows_set_aside:,} rows are set aside ({tier.reason})")
            are_files_read = are_files_read and not tier.rows_unreadable
    if not problems:
        return []
    return [
        Condition(
            key=f"{Scope.REPLICA}/incomplete",
            severity=Severity.WARNING if is_followed and are_files_read else Severity.CRITICAL,
            title="Search does not see all rows",
            detail="; ".join(problems),
            runbook=Runbook.ROWS_SET_ASIDE if is_followed else Runbook.TIER_UNREADABLE,
        )
    ]

"""The alerts that a service raises about the tiers that it serves."""

import pytest

from akosha_api.alert_loop import UNAVAILABLE_SECONDS, of_replica
from akosha_assets.lake.serving.snapshot import TierView
from akosha_assets.lake.serving.states import ViewState
from akosha_assets.lake.watch.alert_kinds import Runbook, Severity

COMPLETE = TierView("hot", ViewState.READY, version=1)
ROWS = TierView("hot", ViewState.READY, "1 rows in 1 files cannot be served", version=1, rows_set_aside=1)
FILES = TierView(
    "hot", ViewState.READY, "9 rows in 1 files cannot be read", version=1, rows_set_aside=9, rows_unreadable=9
)
STALE = TierView("hot", ViewState.UNAVAILABLE, "the log is gone", version=1)


@pytest.mark.parametrize(
    ("tier", "severity", "runbook"),
    [
        (ROWS, Severity.WARNING, Runbook.ROWS_SET_ASIDE),
        (FILES, Severity.CRITICAL, Runbook.ROWS_SET_ASIDE),
        (STALE, Severity.CRITICAL, Runbook.TIER_UNREADABLE),
    ],
    ids=["rows", "files", "stale"],
)
def test_an_incomplete_tier_raises_an_alert_with_its_runbook(
    tier: TierView, severity: Severity, runbook: Runbook
) -> None:
    unavailable_since: dict[str, float] = {}
    of_replica([tier], unavailable_since, seconds=0.0)
    (condition,) = of_replica([tier], unavailable_since, seconds=UNAVAILABLE_SECONDS)
    assert (condition.severity, condition.runbook) == (severity, runbook)
    assert tier.reason is not None and tier.reason in condition.detail


def test_a_complete_tier_raises_no_alert() -> None:
    assert of_replica([COMPLETE], {}, seconds=0.0) == []

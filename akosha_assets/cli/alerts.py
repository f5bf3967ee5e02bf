"""`akosha alerts`: lists firing and resolved alerts, and whether they were delivered."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Exit, Json, console, emit, fail, grid, lake_errors
from akosha_assets.lake.watch.alert_kinds import AlertState

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger


def alerts(
    state: Annotated[AlertState | None, typer.Option(help="Only alerts in this state.")] = None,
    evaluate: Annotated[
        bool, typer.Option("--look", help="First evaluate the conditions and deliver what is due.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test alert and its resolution to every channel.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List alerts, the newest change first.

    Exit status 0: listed; 1: a test message was not accepted; 2: there is no such state; 3: the ledger did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.watch import conditions
    from akosha_assets.lake.watch.alerts import list_alerts

    with lake_errors(), open_ledger(LakeSettings(), create=False) as ledger:
        failed = _test(ledger) if test else 0
        if evaluate:
            conditions.evaluate_and_notify(ledger)
        listed = list_alerts(ledger, state=state)
    if as_json:
        emit(
            {
                "alerts": [
                    {name: value for name, value in vars(one).items() if name != "delivered"}
                    | {"is_notified": one.is_notified}
                    for one in listed
                ]
            }
        )
    else:
        columns = ("alert", "severity", "state", "since", "resolved", "notified", "detail")
        lines = (
            (one.key, one.severity, one.state, one.fired_at, one.resolved_at, one.is_notified, one.error or one.detail)
            for one in listed
        )
        console.print(
            grid("Alerts (times in UTC)", columns, lines) if listed else "No alert is firing, and none ever was."
        )
    if failed:
        raise fail("a channel did not accept the test message; see `akosha alerts`", Exit.FAILED)


def _test(ledger: "Ledger") -> int:
    """Fire and resolve a test alert; returns how many of the two messages a channel did not accept."""
    from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
    from akosha_assets.lake.watch.alerts import SETTLED, Condition, observe
    from akosha_assets.lake.watch.delivery import deliver

    detail = "somebody ran `akosha alerts --test`"
    condition = Condition(f"{Scope.TEST}/notify", Severity.WARNING, "A test", detail, Runbook.FAILED_RUN)
    failed = 0
    for found, at in (([condition], datetime.now(UTC)), ([], datetime.now(UTC) + SETTLED)):
        observe(ledger, found, scopes=[Scope.TEST], now=at)
        failed += deliver(ledger, now=at).failed
    return failed

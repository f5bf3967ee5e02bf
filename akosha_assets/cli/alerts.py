"""`akosha alerts`: lists firing and resolved alerts, and whether they were delivered."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Exit, Json, console, emit, fail, grid, lake_errors

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger


def alerts(
    state: Annotated[str, typer.Option(help="Only alerts in this state: firing, resolved.")] = "",
    look: Annotated[
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
    from akosha_assets.lake.watch import alerts as kept
    from akosha_assets.lake.watch import conditions

    if state not in ("", "firing", "resolved"):
        raise fail(f"{state!r} is not a state of an alert; expected firing or resolved", Exit.USAGE)
    with lake_errors(), open_ledger(LakeSettings(), create=False) as ledger:
        failed = _test(ledger) if test else 0
        if look:
            conditions.evaluate_and_notify(ledger)
        rows = kept.listed(ledger, state=state or None)
    if as_json:
        emit({"alerts": [{name: value for name, value in row._mapping.items() if name != "delivered"} for row in rows]})
    else:
        columns = ("alert", "severity", "state", "since", "resolved", "delivered", "detail")
        lines = (
            (row.key, row.severity, row.state, row.fired_at, row.resolved_at, not row.pending, row.error or row.detail)
            for row in rows
        )
        console.print(
            grid("Alerts (times in UTC)", columns, lines) if rows else "No alert is firing, and none ever was."
        )
    if failed:
        raise fail("a channel did not accept the test message; see `akosha alerts`", Exit.FAILED)


def _test(ledger: "Ledger") -> int:
    from akosha_assets.lake.watch import alerts as kept

    trouble = kept.Condition("test/notify", kept.WARNING, "A test", "somebody ran `akosha alerts --test`", "failed-run")
    failed = 0
    for found, at in (([trouble], datetime.now(UTC)), ([], datetime.now(UTC) + kept.SETTLED)):
        kept.observe(ledger, found, scopes=["test"], now=at)
        failed += kept.deliver(ledger, now=at).failed
    return failed

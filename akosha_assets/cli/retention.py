"""`akosha retention`: deletes rows that are older than the cold window, and manages holds.

The rules are in `lake/lifecycle/retention.py`; Dagster runs the same functions.
"""

from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from akosha_assets.cli.output import Json, console, emit, grid, lake_errors

app = typer.Typer(
    no_args_is_help=True, help="Delete rows older than the cold window, and place holds on rows that must stay."
)


@app.command("apply")
def apply_retention(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the rows. Without it they are only counted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete rows older than the cold window, except those under a hold. A dry run unless --delete is given.

    Exit status 0: done or shown; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.retention import expire
    from akosha_assets.lake.settings import LakeSettings

    lake, now = Lake(LakeSettings()), datetime.now(UTC)
    with lake_errors(), guarded(lake) if delete else nullcontext():
        expired = expire(
            lake, TierPolicy.of(lake.settings), today=now.date(), run=f"cli-{now:%Y%m%dT%H%M%S}", dry_run=not delete
        )
    if as_json:
        emit(asdict(expired))
        return
    verb = "Would delete" if expired.is_dry_run else "Deleted"
    console.print(grid(f"{verb} rows from before {expired.before_day}", ("tier", "rows"), expired.rows.items()))
    console.print(f"{expired.rows_held:,} rows are under {len(expired.holds)} holds and stay.", highlight=False)


@app.command()
def hold(
    name: Annotated[str, typer.Argument(help="Name of the hold.")],
    system: Annotated[str | None, typer.Option(help="Only this system. Unset: every system.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First event day that is held.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last event day that is held.")] = None,
    reason: Annotated[str, typer.Option(help="The reason, which is shown with the hold.")] = "",
    as_json: Json = False,
) -> None:
    """Exclude rows from retention, by system, by event day, or both.

    Exit status 0: the hold is in force; 2: it would match nothing; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.retention import Hold, place
    from akosha_assets.lake.settings import LakeSettings

    placed = Hold(name, system, _day(since), _day(until), reason)
    with lake_errors(), guarded(lake := Lake(LakeSettings())):
        place(lake, placed, changed_at=datetime.now(UTC))
    emit(asdict(placed)) if as_json else console.print(f"hold {name} is in force", highlight=False)


@app.command("release")
def release_hold(name: Annotated[str, typer.Argument(help="Name of the hold.")], as_json: Json = False) -> None:
    """Release a hold. Exit status 0: released; 1: there is no hold of this name; 3: a store did not answer."""
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.retention import release
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors(), guarded(lake := Lake(LakeSettings())):
        release(lake, name, changed_at=datetime.now(UTC))
    emit({"released": name}) if as_json else console.print(f"hold {name} is released", highlight=False)


@app.command("holds")
def list_holds(as_json: Json = False) -> None:
    """List the holds in force. Exit status 0: listed; 3: a store did not answer."""
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.lifecycle.retention import holds
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors():
        rows = [asdict(each) for each in holds(Lake(LakeSettings()))]
    if as_json:
        emit({"holds": rows})
        return
    console.print(grid("Holds", ("name", "system", "from", "until", "reason"), (list(row.values()) for row in rows)))


def _day(time: datetime | None) -> date | None:
    return time.date() if time else None

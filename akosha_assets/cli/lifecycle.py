"""`akosha age`, `tiers` and `retention`: the lifecycle without Dagster.

What moves and why is in `lake/lifecycle`; Dagster runs the same functions.
"""

from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, date, datetime
from time import monotonic
from typing import Annotated, Any

import typer

from akosha_assets.cli.output import Exit, Json, console, emit, errors, fail, grid, lake_errors, size

tiers = typer.Typer(no_args_is_help=True, help="Look at the tiers, and try another policy on paper.")
retention = typer.Typer(no_args_is_help=True, help="Delete what has outlived the cold window, and hold what must stay.")


def age(
    once: Annotated[bool, typer.Option("--once", help="Age every day that is due now, then end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the days that are due and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Move event days that have outlived their tier: hot to warm, warm to cold. Safe to stop anywhere and to run beside
    Dagster.

    Exit status 0: nothing is due any more; 1: the recall gate stopped a day, or a move failed; 2: --once is missing; 3:
    a store did not answer.
    """
    if not once and not dry_run:
        raise fail("say --once, or --dry-run to look first; days age by themselves while `akosha up` runs", Exit.USAGE)
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle import aging
    from akosha_assets.lake.lifecycle.moving import Aged
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.settings import LakeSettings

    lake, now = Lake(LakeSettings()), datetime.now(UTC)
    policy = TierPolicy.of(lake.settings)
    moved: list[dict[str, Any]] = []
    stopped: list[dict[str, Any]] = []
    started = monotonic()
    with lake_errors():
        items = aging.due(lake, policy, now.date())
        if not dry_run:
            run = f"cli-{now:%Y%m%dT%H%M%S}"
            with guarded(lake):
                for outcome in aging.age(lake, items, policy=policy, today=now.date(), moved_at=now, run=run):
                    if isinstance(outcome, Aged):
                        moved.append(asdict(outcome))
                    else:
                        told = {
                            "event_day": outcome.day,
                            "tier": outcome.tier,
                            "recall_at_10": outcome.recall,
                            "required": outcome.required,
                        }
                        stopped.append(told)
                        errors.print(f"[bold red]stopped:[/] {outcome}", highlight=False, soft_wrap=True)
    if as_json:
        due = [asdict(item) for item in items]
        emit(
            {
                "dry_run": dry_run,
                "policy_version": policy.version,
                "due": due,
                "moved": moved,
                "stopped": stopped,
                "seconds": round(monotonic() - started, 2),
            }
        )
    elif not items:
        console.print("No day is due.")
    elif dry_run:
        rows = ((item.event_day, item.tier, item.rows, size(item.stored_bytes)) for item in items)
        console.print(grid("Due", ("event day", "goes to", "rows", "bytes now"), rows))
    else:
        columns = ("event_day", "tier", "rows_moved", "rows_without_vector", "recall_at_10", "seconds")
        console.print(
            grid(
                "Moved",
                [name.replace("_", " ") for name in columns],
                ([row[name] for name in columns] for row in moved),
            )
        )
    if stopped:
        raise typer.Exit(Exit.FAILED)


@tiers.command()
def simulate(
    hot_days: Annotated[
        int | None, typer.Option(min=1, help="Age at which a day leaves hot. Unset: as the settings say.")
    ] = None,
    cold_days: Annotated[int | None, typer.Option(min=2, help="Age at which a day enters cold.")] = None,
    cold_years: Annotated[int | None, typer.Option(min=1, help="Years a day is kept.")] = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Warm keeps the whole text.")] = False,
    storage_price: Annotated[float, typer.Option(min=0, help="Price of a GiB of object storage a month.")] = 0.023,
    memory_price: Annotated[float, typer.Option(min=0, help="Price of a GiB of memory a month.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Show rows, bytes, memory and cost of each tier as it is and as it would be under another policy. Changes nothing.

    Exit status 0: shown; 2: the policy cannot be; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.errors import InvalidSettings
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.simulation import Prices, simulate
    from akosha_assets.lake.settings import LakeSettings

    settings, now = LakeSettings(), datetime.now(UTC)
    wanted = {"hot_days": hot_days, "warm_days": cold_days, "cold_years": cold_years}
    changed: dict[str, int | str] = {name: value for name, value in wanted.items() if value is not None}
    if keep_text:
        changed["warm_keeps"] = ",".join({*filter(None, settings.warm_keeps.split(",")), "text"})
    try:
        policy = TierPolicy.of(LakeSettings(**(settings.model_dump() | changed)))
    except InvalidSettings as error:
        raise fail(str(error), Exit.USAGE) from error
    with lake_errors():
        found = simulate(
            Lake(settings), policy, today=now.date(), moved_at=now, prices=Prices(storage_price, memory_price)
        )
    if as_json:
        emit(asdict(found))
        return
    for title, costs in (("Now", found.now), (f"Under this policy ({found.policy_version})", found.then)):
        columns = ("tier", "days", "rows", "bytes", "memory", "cost a month", "bytes a row", "from")
        shown = (
            (
                c.tier,
                c.days,
                c.rows,
                size(c.stored_bytes),
                size(c.memory_bytes),
                c.cost_per_month,
                c.bytes_per_row,
                c.bytes_per_row_from,
            )
            for c in costs
        )
        console.print(grid(title, columns, shown))
        console.print()
    console.print(
        f"{found.rows_to_move:,} rows would move; {found.rows_past_retention:,} are older than retention keeps.",
        highlight=False,
    )


@tiers.command()
def renew(
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First event day.")],
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last event day. Unset: today.")] = None,
    as_json: Json = False,
) -> None:
    """Make rows of warm and cold anew as far as what was kept allows: summaries and int8 vectors by the present
    methods, missing vectors.

    `rows left` are of an older method or another model and cannot be made again, for what they were made of is gone.

    Exit status 0: done; 1: rows need a vector and no model can be loaded; 3: a store did not answer, or other writers
    kept touching a day.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.embeddings import Embedder
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.policy import COLD, WARM, TierPolicy
    from akosha_assets.lake.lifecycle.reprocessing import reprocess_day, reprocessable_days
    from akosha_assets.lake.settings import LakeSettings

    lake, now = Lake(LakeSettings()), datetime.now(UTC)
    policy, last = TierPolicy.of(lake.settings), until.date() if until else now.date()
    done: list[dict[str, Any]] = []
    with lake_errors(), guarded(lake):
        found = {
            tier: reprocessable_days(
                lake, tier, policy, first=since.date(), last=last, space=lake.settings.embedding_model
            )
            for tier in (WARM, COLD)
        }
        needs_model = any(todo.embedded for todos in found.values() for todo in todos.values())
        embedder = Embedder.load(lake.settings) if needs_model else None
        for tier, todos in found.items():
            for day in todos:
                renewed = reprocess_day(
                    lake, tier, day, policy=policy, renewed_at=now, run=f"cli-{now:%Y%m%dT%H%M%S}", embedder=embedder
                )
                done.append(asdict(renewed))
    if as_json:
        emit({"renewed": done})
        return
    columns = ("event_day", "tier", "rows_resummarised", "rows_embedded", "rows_requantised", "rows_left")
    console.print(
        grid("Renewed", [name.replace("_", " ") for name in columns], ([row[name] for name in columns] for row in done))
    )


@retention.command("apply")
def apply_retention(
    delete: Annotated[
        bool, typer.Option("--delete", help="Really delete. Without it the rows are only counted.")
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
        found = expire(
            lake, TierPolicy.of(lake.settings), today=now.date(), run=f"cli-{now:%Y%m%dT%H%M%S}", dry_run=not delete
        )
    if as_json:
        emit(asdict(found))
        return
    verb = "Would delete" if found.is_dry_run else "Deleted"
    console.print(grid(f"{verb} rows from before {found.before_day}", ("tier", "rows"), found.rows.items()))
    console.print(f"{found.rows_held:,} rows are under {len(found.holds)} holds and stay.", highlight=False)


@retention.command()
def hold(
    name: Annotated[str, typer.Argument(help="Name of the hold.")],
    system: Annotated[str | None, typer.Option(help="Only this system. Unset: every system.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First event day that is held.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last event day that is held.")] = None,
    reason: Annotated[str, typer.Option(help="Why; shown wherever the hold is.")] = "",
    as_json: Json = False,
) -> None:
    """Keep rows from being deleted by retention, by system, by time, or both.

    Exit status 0: the hold is in force; 2: it would hold nothing; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.retention import Hold, place
    from akosha_assets.lake.settings import LakeSettings

    placed = Hold(name, system, _day(since), _day(until), reason)
    with lake_errors(), guarded(lake := Lake(LakeSettings())):
        place(lake, placed, changed_at=datetime.now(UTC))
    emit(asdict(placed)) if as_json else console.print(f"hold {name} is in force", highlight=False)


@retention.command("release")
def release_hold(name: Annotated[str, typer.Argument(help="Name of the hold.")], as_json: Json = False) -> None:
    """End a hold. Exit status 0: it is no longer in force; 1: there is none of that name; 3: a store did not answer."""
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.retention import release
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors(), guarded(lake := Lake(LakeSettings())):
        release(lake, name, changed_at=datetime.now(UTC))
    emit({"released": name}) if as_json else console.print(f"hold {name} is released", highlight=False)


@retention.command("holds")
def list_holds(as_json: Json = False) -> None:
    """List the holds in force. Exit status 0: listed; 3: a store did not answer."""
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.lifecycle.retention import holds
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors():
        found = [asdict(each) for each in holds(Lake(LakeSettings()))]
    if as_json:
        emit({"holds": found})
        return
    console.print(grid("Holds", ("name", "system", "from", "until", "reason"), (list(each.values()) for each in found)))


def _day(given: datetime | None) -> date | None:
    return given.date() if given else None

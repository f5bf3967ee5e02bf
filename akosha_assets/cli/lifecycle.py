"""`akosha age` and `akosha tiers`: the lifecycle without Dagster.

The rules are in `lake/lifecycle`; Dagster runs the same functions.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any

import typer

from akosha_assets.cli.output import Exit, Json, console, emit, error_console, fail, format_bytes, grid, lake_errors

tiers = typer.Typer(no_args_is_help=True, help="Simulate another policy of the tiers, and reprocess old rows.")


def age(
    once: Annotated[bool, typer.Option("--once", help="Age every event day that is due now, then end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the event days that are due and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Move event days that are too old for their tier: hot to warm, warm to cold. It can be interrupted at any time and
    run beside Dagster.

    Exit status 0: nothing is due; 1: the recall gate stopped a day, or a move failed; 2: --once is missing; 3: a store
    did not answer.
    """
    if not once and not dry_run:
        raise fail(
            "--once is missing (--dry-run lists what is due); while `akosha up` runs, days age by themselves",
            Exit.USAGE,
        )
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
                        rejection = {
                            "event_day": outcome.day,
                            "tier": outcome.tier,
                            "recall_at_10": outcome.recall,
                            "required": outcome.required,
                        }
                        stopped.append(rejection)
                        error_console.print(f"[bold red]stopped:[/] {outcome}", highlight=False, soft_wrap=True)
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
        rows = ((item.event_day, item.tier, item.rows, format_bytes(item.stored_bytes)) for item in items)
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
        int | None, typer.Option(min=1, help="Age in days at which a day moves to warm. Unset: AKOSHA_HOT_DAYS.")
    ] = None,
    cold_days: Annotated[
        int | None, typer.Option(min=2, help="Age in days at which a day moves to cold. Unset: AKOSHA_WARM_DAYS.")
    ] = None,
    cold_years: Annotated[
        int | None, typer.Option(min=1, help="Years a day is kept. Unset: AKOSHA_COLD_YEARS.")
    ] = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Warm keeps the full text.")] = False,
    storage_price: Annotated[float, typer.Option(min=0, help="Price of a GiB of object storage per month.")] = 0.023,
    memory_price: Annotated[float, typer.Option(min=0, help="Price of a GiB of memory per month.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Show rows, bytes, memory and cost of each tier now and under another policy. Changes nothing.

    Exit status 0: shown; 2: the policy is invalid; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.errors import InvalidSettings
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.simulation import Prices, simulate
    from akosha_assets.lake.settings import LakeSettings

    settings, now = LakeSettings(), datetime.now(UTC)
    overrides = {"hot_days": hot_days, "warm_days": cold_days, "cold_years": cold_years}
    changed: dict[str, int | str] = {name: value for name, value in overrides.items() if value is not None}
    if keep_text:
        changed["warm_keeps"] = ",".join({*filter(None, settings.warm_keeps.split(",")), "text"})
    try:
        policy = TierPolicy.of(LakeSettings(**(settings.model_dump() | changed)))
    except InvalidSettings as error:
        raise fail(str(error), Exit.USAGE) from error
    with lake_errors():
        simulation = simulate(
            Lake(settings), policy, today=now.date(), moved_at=now, prices=Prices(storage_price, memory_price)
        )
    if as_json:
        emit(asdict(simulation))
        return
    for title, costs in (
        ("Now", simulation.now),
        (f"Under this policy ({simulation.policy_version})", simulation.then),
    ):
        columns = ("tier", "days", "rows", "bytes", "memory", "cost per month", "bytes per row", "from")
        rows = (
            (
                c.tier,
                c.days,
                c.rows,
                format_bytes(c.stored_bytes),
                format_bytes(c.memory_bytes),
                c.cost_per_month,
                c.bytes_per_row,
                c.bytes_per_row_from,
            )
            for c in costs
        )
        console.print(grid(title, columns, rows))
        console.print()
    console.print(
        f"{simulation.rows_to_move:,} rows would move; "
        f"{simulation.rows_past_retention:,} are older than the cold window.",
        highlight=False,
    )


@tiers.command()
def renew(
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First event day.")],
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last event day. Unset: today.")] = None,
    as_json: Json = False,
) -> None:
    """Reprocess rows of warm and cold: summaries and int8 vectors by the present methods, and missing vectors.

    `rows left` are of an older method or another model and cannot be reprocessed, because their source was not kept.

    Exit status 0: done; 1: rows need a vector and no model can be loaded; 3: a store did not answer, or other writers
    kept changing a day.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.embeddings import Embedder
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.reprocessing import reprocess_day, reprocessable_days
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.tiers import Tier

    lake, now = Lake(LakeSettings()), datetime.now(UTC)
    policy, last = TierPolicy.of(lake.settings), until.date() if until else now.date()
    done: list[dict[str, Any]] = []
    with lake_errors(), guarded(lake):
        days_by_tier = {
            tier: reprocessable_days(
                lake, tier, policy, first=since.date(), last=last, space=lake.settings.embedding_model
            )
            for tier in (Tier.WARM, Tier.COLD)
        }
        needs_model = any(todo.embedded for days in days_by_tier.values() for todo in days.values())
        embedder = Embedder.load(lake.settings) if needs_model else None
        for tier, days in days_by_tier.items():
            for day in days:
                renewed = reprocess_day(
                    lake, tier, day, policy=policy, renewed_at=now, run=f"cli-{now:%Y%m%dT%H%M%S}", embedder=embedder
                )
                done.append(asdict(renewed))
    if as_json:
        emit({"renewed": done})
        return
    columns = ("event_day", "tier", "rows_resummarised", "rows_embedded", "rows_requantised", "rows_left")
    console.print(
        grid(
            "Reprocessed",
            [name.replace("_", " ") for name in columns],
            ([row[name] for name in columns] for row in done),
        )
    )

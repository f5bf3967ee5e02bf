"""`akosha status` and `akosha uploads`: what the ledger and the tables say, with nothing running."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akosha_assets.cli.api import DEFAULT_URL
from akosha_assets.cli.inbox import INBOX_HINT, missing_inbox
from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Json, console, emit, foreign, grid, lake_errors, size
from akosha_assets.cli.search import Url

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.backlog import Backlog


def status(
    url: Url = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the screen up to date until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks with --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the backlog, the size of every table, and whether the API answers.

    Exit status 0: shown; 3: the ledger or a store did not answer.
    """
    if watch:
        _watch(seconds)
        return
    import duckdb

    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.backlog import measure
    from akosha_assets.lake.inventory import table_size
    from akosha_assets.lake.lifecycle.hot import days_without_vectors
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.settings import LakeSettings

    settings, now = LakeSettings(), datetime.now(UTC)
    with lake_errors(), duckdb.connect() as connection:
        with open_ledger(settings, create=False) as ledger:
            backlog = measure(ledger, now=now)
        lake = Lake(settings)
        tables = [table_size(lake, address, connection) for address in TABLES]
        bare = sum(days_without_vectors(lake, settings.embedding_model).values())
    answer: dict[str, Any] = {
        "home": str(settings.home),
        "inbox": settings.inbox(),
        "inbox_exists": missing_inbox(settings) is None,
        "lake": settings.lake(),
        "backlog": vars(backlog),
        "tables": {
            one.address: {"rows": one.rows, "bytes": one.stored_bytes, "files": one.files, "version": one.version}
            for one in tables
        },
        "api": {"url": url, **_health(url)},
    }
    if as_json:
        emit(answer)
        return
    for name, place in (("home", str(settings.home)), ("inbox", settings.inbox()), ("lake", settings.lake())):
        console.print(f"[dim]{name:<5}[/] {foreign(place)}", highlight=False, soft_wrap=True)
    if not answer["inbox_exists"]:
        console.print(f"The inbox folder does not exist; {INBOX_HINT}", style="yellow", highlight=False)
    console.print()
    console.print(grid("Uploads", ("state", "count", ""), _states(backlog)))
    rows = [
        (one.address, one.rows, size(one.stored_bytes), one.files, one.version) for one in tables if one.version >= 0
    ]
    console.print()
    if rows:
        console.print(grid("Tables", ("table", "rows", "bytes", "files", "version"), rows))
    else:
        console.print(
            "No table was written yet. `akosha up` takes in what lies in the inbox, or `akosha ingest --once` does "
            "it once."
        )
    if bare:
        console.print(
            f"\n{bare:,} hot rows wait for a vector of {settings.embedding_model}", style="yellow", highlight=False
        )
    health = answer["api"]["health"] or "does not answer; start it with `akosha up`, or name another with --url"
    console.print(f"\n[dim]API[/]   {foreign(url)}: {foreign(health)}", highlight=False, soft_wrap=True)
    for reason in answer["api"]["reasons"]:
        console.print(f"      {foreign(reason)}", style="yellow", highlight=False, soft_wrap=True)


def _watch(seconds: float) -> None:
    from akosha_assets.cli import watching
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=False) as ledger:
        watching.watch(Lake(settings), ledger, seconds=seconds)


def uploads(
    state: Annotated[
        str,
        typer.Option(help="Only uploads in this state: arriving, waiting, claimed, ingested, quarantined, incomplete."),
    ] = "",
    system: Annotated[str, typer.Option(help="Only uploads of this system.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Uploads at most, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List uploads and what became of them, newest first.

    Exit status 0: listed; 2: there is no such state; 3: the ledger did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors(), open_ledger(LakeSettings(), create=False) as ledger:
        page = ledger.uploads(state=state or None, system_id=system or None, limit=limit)
    rows = [row._asdict() for row in page.uploads]
    if as_json:
        emit({"uploads": rows, "cursor": page.cursor})
        return
    console.print(grid("Uploads", ("upload", "seen UTC", "became (rows new, changed, same)"), map(_line, rows)))
    # The reason stands in the table; what exactly was found stands below it, once for each.
    for row in rows:
        if row["message"] and row["state"] == "quarantined":
            console.print(
                f"  [dim]{foreign(row['upload_id'])}:[/] {foreign(row['message'])}", highlight=False, soft_wrap=True
            )
    if page.cursor is not None:
        console.print(f"More follow: --limit {limit * 10}", style="dim")


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    became = row["reason"] or row["state"]
    if row["new_rows"] is not None:
        became += f" +{row['new_rows']:,} ~{row['changed_rows']:,} ={row['unchanged_rows']:,}"
    return row["upload_id"], f"{row['seen_at']:%m-%d %H:%M}", became


def _states(backlog: "Backlog") -> list[tuple[str, int, str]]:
    oldest = (
        f"{size(backlog.waiting_bytes)}, the oldest for {backlog.oldest_waiting_seconds:,.0f} s"
        if backlog.waiting
        else ""
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in backlog.quarantined_by_reason.items())
    return [
        ("arriving", backlog.arriving, ""),
        ("incomplete", backlog.incomplete, "no manifest within the grace period" if backlog.incomplete else ""),
        ("waiting", backlog.waiting - backlog.claimed, oldest),
        ("being taken in", backlog.claimed, f"{backlog.live_batches} batches" if backlog.live_batches else ""),
        ("ingested", backlog.ingested, ""),
        ("quarantined", backlog.quarantined, reasons),
    ]


def _health(url: str) -> dict[str, Any]:
    """What the API says of itself: `health`, None where none answers, and the `reasons` why it is no better."""
    import httpx

    try:
        said = httpx.get(f"{url.rstrip('/')}/health", timeout=2).json()
    except (httpx.HTTPError, httpx.InvalidURL):
        return {"health": None, "reasons": []}
    except ValueError:
        said = None
    if not isinstance(said, dict) or "status" not in said:
        return {"health": "something else than Akosha answers there", "reasons": []}
    return {"health": said["status"], "reasons": said.get("reasons", [])}

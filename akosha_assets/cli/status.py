"""`akosha status` and `akosha uploads`: what the ledger and the tables say, with nothing running."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from akosha_assets.cli.api import DEFAULT_URL
from akosha_assets.cli.output import Json, console, emit, grid, lake_errors, size
from akosha_assets.cli.search import Url


def status(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Show the backlog, the size of every table, and whether the API answers.

    Exit status 0: shown; 3: the ledger or a store did not answer.
    """
    import duckdb

    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.backlog import measure
    from akosha_assets.lake.ingestion.ledger import Ledger
    from akosha_assets.lake.inventory import table_size
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.settings import LakeSettings

    settings, now = LakeSettings(), datetime.now(UTC)
    with lake_errors(), duckdb.connect() as connection:
        ledger = Ledger.open(settings)
        backlog = measure(ledger, now=now)
        ledger.close()
        lake = Lake(settings)
        tables = [table_size(lake, address, connection) for address in TABLES]
    answer: dict[str, Any] = {
        "home": str(settings.home),
        "inbox": settings.inbox(),
        "lake": settings.lake(),
        "backlog": vars(backlog),
        "tables": {
            one.address: {"rows": one.rows, "bytes": one.stored_bytes, "files": one.files, "version": one.version} for one in tables
        },
        "api": {"url": url, "health": _health(url)},
    }
    if as_json:
        emit(answer)
        return
    console.print(f"[dim]home[/]  {settings.home}\n[dim]inbox[/] {settings.inbox()}\n[dim]lake[/]  {settings.lake()}\n", highlight=False)
    console.print(grid("Uploads", ("state", "count"), ((name.replace("_", " "), value) for name, value in answer["backlog"].items())))
    rows = ((one.address, one.rows, size(one.stored_bytes), one.files, one.version if one.version >= 0 else None) for one in tables)
    console.print()
    console.print(grid("Tables", ("table", "rows", "bytes", "files", "version"), rows))
    console.print(f"\n[dim]API[/]   {url}: {answer['api']['health'] or 'does not answer'}", highlight=False)


def uploads(
    state: Annotated[
        str, typer.Option(help="Only uploads in this state: arriving, waiting, claimed, ingested, quarantined, incomplete.")
    ] = "",
    system: Annotated[str, typer.Option(help="Only uploads of this system.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Uploads at most, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List uploads and what became of them, newest first.

    Exit status 0: listed; 2: there is no such state; 3: the ledger did not answer.
    """
    from akosha_assets.lake.ingestion.ledger import Ledger
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors():
        ledger = Ledger.open(LakeSettings())
        page = ledger.uploads(state=state or None, system_id=system or None, limit=limit)
        ledger.close()
    rows = [row._asdict() for row in page.uploads]
    if as_json:
        emit({"uploads": rows, "cursor": page.cursor})
        return
    columns = ("upload_id", "state", "seen_at", "ingested_at", "new_rows", "changed_rows", "unchanged_rows", "reason")
    console.print(grid("Uploads", [name.replace("_", " ") for name in columns], ([row[name] for name in columns] for row in rows)))
    if page.cursor is not None:
        console.print(f"More follow: --limit {limit * 10}", style="dim")


def _health(url: str) -> str | None:
    import httpx

    try:
        return httpx.get(f"{url.rstrip('/')}/health", timeout=2).json()["status"]
    except (httpx.HTTPError, httpx.InvalidURL):
        return None

"""`akosha status` and `akosha uploads`: read the ledger and the tables; no service has to run."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akosha_assets.cli.api import DEFAULT_URL
from akosha_assets.cli.inbox import INBOX_HINT, missing_inbox
from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Json, console, emit, escape_markup, format_bytes, grid, lake_errors
from akosha_assets.cli.search import Url
from akosha_assets.lake.ingestion.ledger.states import UploadFilter, UploadState

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.backlog import Backlog


def status(
    url: Url = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh the screen until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, help="Seconds between two refreshes with --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the backlog, the size of every table, and the health of the API.

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
        rows_without_vector = sum(days_without_vectors(lake, settings.embedding_model).values())
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
        console.print(f"[dim]{name:<5}[/] {escape_markup(place)}", highlight=False, soft_wrap=True)
    if not answer["inbox_exists"]:
        console.print(f"The inbox folder does not exist; {INBOX_HINT}", style="yellow", highlight=False)
    console.print()
    console.print(grid("Uploads", ("state", "count", ""), _states(backlog)))
    rows = [
        (one.address, one.rows, format_bytes(one.stored_bytes), one.files, one.version)
        for one in tables
        if one.version >= 0
    ]
    console.print()
    if rows:
        console.print(grid("Tables", ("table", "rows", "bytes", "files", "version"), rows))
    else:
        console.print(
            "No table was written yet. `akosha up` ingests the uploads of the inbox as they arrive, "
            "`akosha ingest --once` those that are there now."
        )
    if rows_without_vector:
        console.print(
            f"\n{rows_without_vector:,} hot rows have no vector of {settings.embedding_model}",
            style="yellow",
            highlight=False,
        )
    health = answer["api"]["health"] or "does not answer; start it with `akosha up`, or set another address with --url"
    console.print(f"\n[dim]API[/]   {escape_markup(url)}: {escape_markup(health)}", highlight=False, soft_wrap=True)
    for reason in answer["api"]["reasons"]:
        console.print(f"      {escape_markup(reason)}", style="yellow", highlight=False, soft_wrap=True)


def _watch(seconds: float) -> None:
    from akosha_assets.cli import watching
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=False) as ledger:
        watching.watch(Lake(settings), ledger, seconds=seconds)


def uploads(
    state: Annotated[
        UploadFilter | None, typer.Option(help="Only uploads in this state; incomplete: arriving for too long.")
    ] = None,
    system: Annotated[str, typer.Option(help="Only uploads of this system.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Uploads at most, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List uploads and their states, newest first.

    Exit status 0: listed; 2: there is no such state; 3: the ledger did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings

    with lake_errors(), open_ledger(LakeSettings(), create=False) as ledger:
        page = ledger.uploads(state=state, system_id=system or None, limit=limit)
    rows = [asdict(row) for row in page.uploads]
    if as_json:
        emit({"uploads": rows, "cursor": page.cursor})
        return
    console.print(grid("Uploads", ("upload", "seen UTC", "state (rows new, changed, same)"), map(_line, rows)))
    # The table shows the reason code; the message with the details follows below.
    for row in rows:
        if row["message"] and row["state"] in (UploadState.QUARANTINED, UploadState.ARRIVING):
            console.print(
                f"  [dim]{escape_markup(row['upload_id'])}:[/] {escape_markup(row['message'])}",
                highlight=False,
                soft_wrap=True,
            )
    if page.cursor is not None:
        console.print(f"There are more: --limit {limit * 10}", style="dim")


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    state = row["reason"] or row["state"]
    if row["new_rows"] is not None:
        state += f" +{row['new_rows']:,} ~{row['changed_rows']:,} ={row['unchanged_rows']:,}"
    return row["upload_id"], f"{row['seen_at']:%m-%d %H:%M}", state


def _states(backlog: "Backlog") -> list[tuple[str, int, str]]:
    oldest = (
        f"{format_bytes(backlog.waiting_bytes)}, the oldest for {backlog.oldest_waiting_seconds:,.0f} s"
        if backlog.waiting
        else ""
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in backlog.quarantined_by_reason.items())
    return [
        ("arriving", backlog.arriving, ""),
        ("incomplete", backlog.incomplete, "no manifest within the grace period" if backlog.incomplete else ""),
        ("waiting", backlog.waiting - backlog.claimed, oldest),
        ("claimed", backlog.claimed, f"{backlog.live_batches} batches" if backlog.live_batches else ""),
        ("ingested", backlog.ingested, ""),
        ("quarantined", backlog.quarantined, reasons),
    ]


def _health(url: str) -> dict[str, Any]:
    """`health` of the API, None if it does not answer, and `reasons`, why it is degraded."""
    import httpx

    try:
        body = httpx.get(f"{url.rstrip('/')}/health", timeout=2).json()
    except (httpx.HTTPError, httpx.InvalidURL):
        return {"health": None, "reasons": []}
    except ValueError:
        body = None
    if not isinstance(body, dict) or "status" not in body:
        return {"health": "another program than Akosha answers there", "reasons": []}
    return {"health": body["status"], "reasons": body.get("reasons", [])}

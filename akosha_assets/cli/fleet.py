"""`akosha fleet`: a simulated fleet that uploads what real machines upload."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

app = typer.Typer(help="Simulate a fleet of machines that upload their memories.", no_args_is_help=True)


@app.callback()
def fleet() -> None:
    """Simulate a fleet of machines that upload their memories."""


@app.command()
def upload(
    systems: Annotated[int, typer.Option(min=1, help="Machines in the fleet.")] = 10,
    memories: Annotated[int, typer.Option(min=1, help="Memories of each machine in its last snapshot.")] = 100,
    days: Annotated[int, typer.Option(min=1, help="Days the events fall on, today included.")] = 7,
    snapshots: Annotated[int, typer.Option(min=1, help="Full snapshots of each machine, a minute apart.")] = 1,
    inbox: Annotated[str, typer.Option(help="Folder or URL to upload to. Unset: the inbox of the settings.")] = "",
    seed: Annotated[int, typer.Option(help="Same seed, options and --now: same rows.")] = 0,
    now: Annotated[str, typer.Option(help="Time of the last upload, ISO 8601 with zone. Unset: the present.")] = "",
    distinct: Annotated[int, typer.Option(min=0, help="Simulate only so many machines; the rest uploads copies. 0: all differ.")] = 0,
    vectors: Annotated[bool, typer.Option("--vectors", help="Fill the embedding columns with made-up unit vectors.")] = False,
    faults: Annotated[bool, typer.Option("--faults", help="Add one upload of each kind that cannot be taken in.")] = False,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that render databases.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Upload snapshots of a simulated fleet into the inbox, exactly as Session-Buddy writes them.

    Exit status 0: all is uploaded; 1: the inbox could not be written; 2: the options make no sense.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from akosha_assets.fleet.faults import upload_faults
    from akosha_assets.fleet.systems import FleetPlan
    from akosha_assets.fleet.upload import UploadedSnapshot, upload_fleet
    from akosha_assets.lake.errors import StoreUnavailable
    from akosha_assets.lake.settings import LakeSettings

    console = Console(stderr=True)
    try:
        last_at = datetime.fromisoformat(now) if now else datetime.now(UTC)
        plan = FleetPlan(
            systems=systems, memories=memories, now=last_at, days=days, snapshots=snapshots, seed=seed, distinct=distinct, vectors=vectors
        )
        url = LakeSettings(inbox_url=inbox).inbox() if inbox else LakeSettings().inbox()
    except ValueError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error

    started = time.monotonic()
    try:
        with Progress(*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn(), console=console) as progress:
            bar = progress.add_task("uploading", total=systems * snapshots)

            def advance(_: UploadedSnapshot) -> None:
                progress.advance(bar)

            uploaded = upload_fleet(url, plan, on_upload=advance, processes=processes)
        broken = upload_faults(url, at=plan.now, seed=seed) if faults else {}
    except (OSError, StoreUnavailable) as error:
        console.print(f"[red]Cannot write to the inbox {url}:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error

    seconds = time.monotonic() - started
    rows: Counter[str] = Counter()
    for one in uploaded:
        rows.update(one.rows)
    last = {one.system_id: one for one in uploaded}
    summary: dict[str, Any] = {
        "inbox": url,
        "systems": systems,
        "uploads": len(uploaded),
        "memories": sum(one.memories for one in last.values()),
        "rows": dict(sorted(rows.items())),
        "faults": broken,
        "seconds": round(seconds, 2),
        "uploads_per_second": round(len(uploaded) / seconds, 1),
        "samples": list(uploaded[-1].samples),
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    _show(summary)


def _show(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Uploaded to {summary['inbox']}", show_header=False)
    for name in ("systems", "uploads", "memories", "seconds", "uploads_per_second"):
        table.add_row(name.replace("_", " "), f"{summary[name]:,}")
    for name, count in summary["rows"].items():
        table.add_row(f"rows of {name}", f"{count:,}")
    for fault, upload_id in summary["faults"].items():
        table.add_row(f"fault: {fault}", upload_id)
    Console().print(table)

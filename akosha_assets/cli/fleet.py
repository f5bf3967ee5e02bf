"""`akosha fleet`: uploads snapshots of a simulated fleet."""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from akosha_assets.cli.output import Exit, Json, console, emit, error_console, fail, grid

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
    distinct: Annotated[
        int, typer.Option(min=0, help="Simulate only this many machines; the others upload copies. 0: all differ.")
    ] = 0,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Fill the embedding columns with random unit vectors.")
    ] = False,
    fingerprints: Annotated[bool, typer.Option(help="Compute MinHash fingerprints as Session-Buddy does.")] = True,
    faults: Annotated[
        bool, typer.Option("--faults", help="Add one upload of each kind that cannot be ingested.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that render databases.")] = 2,
    as_json: Json = False,
) -> None:
    """Upload snapshots of a simulated fleet into the inbox, exactly as Session-Buddy writes them.

    Exit status 0: everything is uploaded; 2: invalid options; 3: the inbox cannot be written.
    """
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from akosha_assets.fleet.faults import upload_faults
    from akosha_assets.fleet.systems import FleetPlan
    from akosha_assets.fleet.upload import UploadedSnapshot, upload_fleet
    from akosha_assets.lake.errors import StoreUnavailable
    from akosha_assets.lake.settings import LakeSettings

    try:
        last_at = datetime.fromisoformat(now) if now else datetime.now(UTC)
        plan = FleetPlan(
            systems=systems,
            memories=memories,
            now=last_at,
            days=days,
            snapshots=snapshots,
            seed=seed,
            distinct=distinct,
            vectors=vectors,
            fingerprints=fingerprints,
        )
        url = LakeSettings(inbox_url=inbox).inbox() if inbox else LakeSettings().inbox()
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error

    started = time.monotonic()
    try:
        with Progress(
            *Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn(), console=error_console
        ) as progress:
            bar = progress.add_task("uploading", total=systems * snapshots)

            def advance(_: UploadedSnapshot) -> None:
                progress.advance(bar)

            uploaded = upload_fleet(url, plan, on_upload=advance, processes=processes)
        faulty = upload_faults(url, at=plan.now, seed=seed) if faults else {}
    except (OSError, StoreUnavailable) as error:
        message = f"cannot write to the inbox {url}: {error}; check the address, or set another one with --inbox"
        raise fail(message, Exit.UNAVAILABLE) from error

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
        "faults": faulty,
        "seconds": round(seconds, 2),
        "uploads_per_second": round(len(uploaded) / seconds, 1),
        "samples": list(uploaded[-1].samples),
    }
    if as_json:
        emit(summary)
        return
    _show(summary)


def _show(summary: dict[str, Any]) -> None:
    lines = [
        (name.replace("_", " "), summary[name])
        for name in ("systems", "uploads", "memories", "seconds", "uploads_per_second")
    ]
    lines += [(f"rows of {name}", count) for name, count in summary["rows"].items()]
    console.print(grid(f"Uploaded to {summary['inbox']}", ("what", "count"), lines))
    if summary["faults"]:
        console.print(grid("Faulty uploads", ("fault", "upload"), summary["faults"].items()))

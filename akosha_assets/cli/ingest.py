"""`akosha ingest --once`: what the sensor and the ingest run do, without Dagster."""

import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from akosha_assets.cli.inbox import INBOX_HINT, missing_inbox
from akosha_assets.cli.output import Exit, Json, console, emit, errors, fail, grid, lake_errors


def ingest(
    once: Annotated[bool, typer.Option("--once", help="Take in what lies in the inbox now, then end.")] = False,
    as_json: Json = False,
) -> None:
    """List the inbox and take in every upload that waits. SIGTERM or Ctrl-C finishes or hands back what is under way.

    Exit status 0: nothing waits any more but what another run holds, or a signal came; 1: it failed; 2: --once is
    missing; 3: the inbox folder does not exist, or a store did not answer.
    """
    if not once:
        raise fail("say --once; to take uploads in as they come, run `akosha up`", Exit.USAGE)
    from akosha_assets.lake import telemetry
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.arrivals import BatchResult, ingest
    from akosha_assets.lake.ingestion.backlog import measure
    from akosha_assets.lake.ingestion.inbox.listing import sweep
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.settings import LakeSettings

    asked = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, remember)
    settings, started = LakeSettings(), time.monotonic()
    if (folder := missing_inbox(settings)) is not None:
        raise fail(f"the inbox folder {folder} does not exist; {INBOX_HINT}", Exit.UNAVAILABLE)
    if settings.log_format == "json":
        telemetry.configure_logging(settings.log_format)
    with lake_errors():
        ledger = Ledger.open(settings)
        swept = sweep(settings, ledger, now=datetime.now(UTC), whole=True)
        waiting = measure(ledger, now=datetime.now(UTC)).waiting
        columns = (TextColumn("taking in"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=errors, transient=True, disable=as_json) as progress:
            bar = progress.add_task("", total=waiting)

            def advance(result: BatchResult) -> None:
                progress.advance(bar, sum(result.uploads.values()))

            began = time.monotonic()
            results = ingest(
                Lake(settings),
                ledger,
                run_id=f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}",
                stop=asked.is_set,
                on_batch=advance,
            )
            taking_in = time.monotonic() - began
        left = measure(ledger, now=datetime.now(UTC))
        ledger.close()
    rows: Counter[str] = Counter()
    uploads: Counter[str] = Counter()
    steps: dict[str, float] = {}
    for result in results:
        rows.update(result.rows)
        uploads.update(result.uploads)
        for name, seconds in result.seconds.items():
            steps[name] = steps.get(name, 0.0) + seconds
    answer: dict[str, Any] = {
        "listed": swept.listed,
        "found": swept.added,
        "skipped": swept.skipped,
        "batches": len(results),
        "uploads": dict(uploads),
        "rows": dict(rows),
        "waiting": left.waiting,
        "held": left.claimed,
        "stopped": asked.is_set(),
        "seconds_by_step": {name: round(seconds, 2) for name, seconds in steps.items()},
        "seconds_taking_in": round(taking_in, 2),
        "seconds": round(time.monotonic() - started, 2),
    }
    if as_json:
        emit(answer)
        return
    console.print(
        grid("Uploads", ("became", "count"), uploads.items())
        if uploads
        else "Nothing could be taken in."
        if left.waiting
        else "Nothing waited."
    )
    if rows:
        console.print(grid("Rows stored", ("table", "rows"), sorted(rows.items())))
    ended = "stopped when asked, " if asked.is_set() else ""
    console.print(
        f"{swept.listed:,} objects listed, {ended}{left.waiting:,} uploads wait, {answer['seconds']} s",
        style="dim",
        highlight=False,
    )
    if left.claimed:
        held = (
            f"{left.claimed:,} of them are held by another run; if that died, for {settings.lease_seconds} s more "
            "at most"
        )
        console.print(held, style="yellow", highlight=False)

"""`akosha ingest --once`: does what the upload sensor and the ingest run do, without Dagster."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from akosha_assets.cli.inbox import INBOX_HINT, missing_inbox
from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Exit, Json, console, emit, error_console, fail, grid, lake_errors

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.arrivals import BatchResult
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.settings import LakeSettings


def ingest(
    once: Annotated[
        bool, typer.Option("--once", help="Ingest the uploads that are in the inbox now, then end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the inbox and ingest every waiting upload. SIGTERM or Ctrl-C finishes or releases what is in flight.

    Exit status 0: nothing waits except uploads that another run has claimed, or a signal came; 1: it failed; 2: --once
    is missing; 3: the inbox folder does not exist, or a store did not answer.
    """
    if not once:
        raise fail("--once is missing; to ingest uploads as they arrive, run `akosha up`", Exit.USAGE)
    from akosha_assets.lake import telemetry
    from akosha_assets.lake.ingestion.backlog import measure
    from akosha_assets.lake.ingestion.inbox.listing import sweep
    from akosha_assets.lake.settings import LakeSettings

    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    settings, started = LakeSettings(), time.monotonic()
    if (folder := missing_inbox(settings)) is not None:
        raise fail(f"the inbox folder {folder} does not exist; {INBOX_HINT}", Exit.UNAVAILABLE)
    if settings.log_format == "json":
        telemetry.configure_logging(settings.log_format)
    with lake_errors(), open_ledger(settings, create=True) as ledger:
        swept = sweep(settings, ledger, now=datetime.now(UTC), whole=True)
        waiting = measure(ledger, now=datetime.now(UTC)).waiting
        ingestion_started = time.monotonic()
        results = _ingest_with_progress(settings, ledger, waiting=waiting, stop=stop.is_set, show=not as_json)
        seconds_ingesting = time.monotonic() - ingestion_started
        backlog = measure(ledger, now=datetime.now(UTC))
    answer: dict[str, Any] = {
        "listed": swept.listed,
        "found": swept.added,
        "skipped": swept.skipped,
        "batches": len(results),
        "uploads": _total(result.uploads for result in results),
        "rows": _total(result.rows for result in results),
        "waiting": backlog.waiting,
        "held": backlog.claimed,
        "stopped": stop.is_set(),
        "seconds_by_step": {
            name: round(seconds, 2) for name, seconds in _total(result.seconds for result in results).items()
        },
        "seconds_taking_in": round(seconds_ingesting, 2),
        "seconds": round(time.monotonic() - started, 2),
    }
    if as_json:
        emit(answer)
    else:
        _print(answer, lease_seconds=settings.lease_seconds)


def _total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of all `parts` by key."""
    sums: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = sums.get(name, 0) + value
    return sums


def _ingest_with_progress(
    settings: "LakeSettings", ledger: "Ledger", *, waiting: int, stop: Callable[[], bool], show: bool
) -> "list[BatchResult]":
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.arrivals import ingest

    columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not show) as progress:
        bar = progress.add_task("", total=waiting)

        def advance(result: "BatchResult") -> None:
            progress.advance(bar, sum(result.uploads.values()))

        run_id = f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        return ingest(Lake(settings), ledger, run_id=run_id, stop=stop, on_batch=advance)


def _print(answer: Mapping[str, Any], *, lease_seconds: int) -> None:
    if answer["uploads"]:
        console.print(grid("Uploads", ("state", "count"), answer["uploads"].items()))
    else:
        console.print("No waiting upload could be claimed." if answer["waiting"] else "No upload is waiting.")
    if answer["rows"]:
        console.print(grid("Rows stored", ("table", "rows"), sorted(answer["rows"].items())))
    stopped = "stopped by a signal, " if answer["stopped"] else ""
    console.print(
        f"{answer['listed']:,} objects listed, {stopped}{answer['waiting']:,} uploads waiting, {answer['seconds']} s",
        style="dim",
        highlight=False,
    )
    if answer["held"]:
        console.print(
            f"{answer['held']:,} of them are claimed by another run; if it died, they are released within "
            f"{lease_seconds} s",
            style="yellow",
            highlight=False,
        )

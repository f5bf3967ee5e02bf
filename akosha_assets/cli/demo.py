"""`akosha demo`: all services, a small simulated fleet that uploads, and a search for what it uploaded a moment ago.

Nothing here takes uploads in: the upload sensor does, as it would for a real fleet. The services are those of `up.py`.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from akosha_assets.cli import services
from akosha_assets.cli.answer import show
from akosha_assets.cli.api import call
from akosha_assets.cli.output import Exit, console, fail
from akosha_assets.cli.services import Ports
from akosha_assets.cli.supervisor import Supervisor
from akosha_assets.cli.up import (
    API_PORT,
    DAGSTER_PORT,
    ApiHost,
    ApiPort,
    CodePort,
    DagsterPort,
    addresses,
    services_up,
    stay,
)
from akosha_assets.lake.settings import LakeSettings

if TYPE_CHECKING:
    from akosha_assets.fleet.systems import FleetPlan
    from akosha_assets.fleet.upload import UploadedSnapshot

WORK_SECONDS = 180
SEARCHABLE_SECONDS = 30
QUESTION_WORDS = 8


def demo(
    systems: Annotated[int, typer.Option(min=1, max=10_000, help="Machines in the simulated fleet.")] = 10,
    memories: Annotated[int, typer.Option(min=1, help="Memories of each machine.")] = 300,
    days: Annotated[int, typer.Option(min=1, help="Days the memories fall on, today included.")] = 7,
    api_port: ApiPort = API_PORT,
    dagster_port: DagsterPort = DAGSTER_PORT,
    code_port: CodePort = None,
    api_host: ApiHost = services.HOST,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop everything after the search instead of waiting for Ctrl-C.")
    ] = False,
) -> None:
    """Start everything, let a simulated fleet upload, watch the sensor take it in, and search for what came.

    Exit status 0: the search found it, and everything was stopped when asked; 1: it did not come through; 3: a port is
    taken.
    """
    from akosha_assets.fleet.systems import FleetPlan

    ports = Ports(api_port, dagster_port, code_port, api_host)
    plan = FleetPlan(systems=systems, memories=memories, days=days, now=datetime.now(UTC))
    with services_up(ports, dagster=True) as (supervisor, bring_up):
        fleet = _Fleet(plan)
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            view = _View(progress, fleet)
            fleet.start()
            bring_up(view.refresh)
            view.started()
            _until(
                supervisor,
                lambda: view.refresh() and fleet.is_ingested,
                within_seconds=WORK_SECONDS,
                waiting_for="the uploads to be taken in",
            )
        if not supervisor.stopping:
            _search(supervisor, fleet, ports)
            addresses(ports, dagster=True)
        if not leave:
            stay(supervisor)


class _Fleet:
    """The simulated uploads and what the ledger says of them."""

    def __init__(self, plan: "FleetPlan"):
        from akosha_assets.lake.ingestion.ledger.ledger import Ledger

        self.plan, self.settings = plan, LakeSettings()
        self.expected = plan.systems * plan.snapshots
        self.uploaded: list[UploadedSnapshot] = []
        self.failure: BaseException | None = None
        self.ledger = Ledger.open(self.settings)
        self.ingested = 0

    def start(self) -> None:
        """Uploads begin, beside everything else."""
        threading.Thread(target=self._upload, name="fleet", daemon=True).start()

    def _upload(self) -> None:
        from akosha_assets.fleet.upload import upload_fleet

        try:
            upload_fleet(self.settings.inbox(), self.plan, on_upload=self.uploaded.append)
        except BaseException as error:
            self.failure = error
            raise

    def look(self) -> None:
        """`ingested` is what the ledger says now."""
        if self.failure is not None:
            raise fail(f"the simulated fleet could not upload: {self.failure}", Exit.FAILED)
        mine = {one.upload_id for one in self.uploaded}
        page = self.ledger.uploads(state="ingested", limit=max(1, 2 * self.expected))
        self.ingested = sum(row.upload_id in mine for row in page.uploads)

    @property
    def is_ingested(self) -> bool:
        """Whether every upload of the plan is in the tables."""
        return len(self.uploaded) == self.expected and self.ingested == self.expected


class _View:
    """Three bars: services, uploads, and what was taken in of them."""

    def __init__(self, progress: Progress, fleet: _Fleet):
        self.progress, self.fleet = progress, fleet
        self.services: TaskID = progress.add_task("services", total=1, note="Dagster and the API are starting")
        self.uploaded: TaskID = progress.add_task(
            "uploaded", total=fleet.expected, note="into the inbox, as Session-Buddy does it"
        )
        self.ingested: TaskID = progress.add_task("ingested", total=fleet.expected, note="")
        self.looked_at = 0.0

    def started(self) -> None:
        """The services answer."""
        self.progress.update(self.services, completed=1, note="")

    def refresh(self) -> bool:
        """The bars show how it stands; always true."""
        if time.monotonic() - self.looked_at > 0.3:
            self.looked_at = time.monotonic()
            self.fleet.look()
            memories = sum(one.memories for one in self.fleet.uploaded)
            self.progress.update(self.uploaded, completed=len(self.fleet.uploaded), note=f"{memories:,} memories")
            left = self.fleet.expected - self.fleet.ingested
            note = (
                "the upload sensor starts an ingest run"
                if not self.fleet.ingested
                else f"{left} remain"
                if left
                else "in the hot table"
            )
            self.progress.update(self.ingested, completed=self.fleet.ingested, note=note)
        return True


def _until(supervisor: Supervisor, condition: Callable[[], bool], *, within_seconds: float, waiting_for: str) -> None:
    deadline = time.monotonic() + within_seconds
    while not supervisor.stopping and not condition():
        if time.monotonic() > deadline:
            raise fail(
                f"waited {within_seconds:.0f} s for {waiting_for}; see the logs in {supervisor.logs}", Exit.FAILED
            )
        supervisor.look_after()
        time.sleep(0.2)


def _search(supervisor: Supervisor, fleet: _Fleet, ports: Ports) -> None:
    """What was uploaded a moment ago is found over HTTP and shown."""
    newest = max(fleet.uploaded, key=lambda one: one.uploaded_at)
    words = " ".join(newest.samples[-1].split()[:QUESTION_WORDS])
    url, found, question = services.api_url(ports), {}, {"query": words, "limit": 3}

    def answered() -> bool:
        found.update(call("POST", url, "/api/v1/search", body=question))
        return any(one["arrived_at"] >= fleet.plan.now.isoformat() for one in found["results"])

    _until(
        supervisor,
        answered,
        within_seconds=SEARCHABLE_SECONDS,
        waiting_for=f"a search for {words!r} to find what was uploaded",
    )
    if found:
        console.print(f"\n[bold]akosha search[/] {words!r}\n", highlight=False)
        show(question, found)

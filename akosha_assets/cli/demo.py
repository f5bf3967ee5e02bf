"""`akosha demo`: starts all services, uploads memories of a small simulated fleet, and searches for one of them.

The upload sensor ingests the uploads, as it does for a real fleet. The services are those of `up.py`.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from akosha_assets.cli import services
from akosha_assets.cli.answer import print_answer
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
    print_addresses,
    run_until_stopped,
    start_services,
    supervised,
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
    """Start everything, upload memories of a simulated fleet, wait for the sensor to ingest them, and search for one.

    Exit status 0: the search found it, and everything was stopped; 1: a service, the upload or the search failed; 3: a
    port or the home is in use.
    """
    from akosha_assets.fleet.systems import FleetPlan

    ports = Ports(api=api_port, dagster=dagster_port, code=code_port, api_host=api_host)
    plan = FleetPlan(systems=systems, memories=memories, days=days, now=datetime.now(UTC))
    settings = LakeSettings()
    with supervised(settings) as supervisor:
        fleet = _Fleet(plan, settings)
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
            start_services(supervisor, ports, settings, dagster=True, on_poll=view.refresh)
            view.show_started()

            def is_ingested() -> bool:
                view.refresh()
                return fleet.is_ingested

            _wait_until(supervisor, is_ingested, within_seconds=WORK_SECONDS, waiting_for="the uploads to be ingested")
        if not supervisor.stopping:
            _search(supervisor, fleet, ports)
            print_addresses(ports, settings, dagster=True)
        if not leave:
            run_until_stopped(supervisor)


class _Fleet:
    """The simulated fleet: its uploads, and how many of them the ledger shows as ingested."""

    def __init__(self, plan: "FleetPlan", settings: LakeSettings):
        from akosha_assets.lake.ingestion.ledger.ledger import Ledger

        self.plan, self.settings = plan, settings
        self.expected = plan.systems * plan.snapshots
        self.uploaded: list[UploadedSnapshot] = []
        self.failure: BaseException | None = None
        self.ledger = Ledger.open(self.settings)
        self.ingested = 0

    def start(self) -> None:
        """Start to upload in a thread."""
        threading.Thread(target=self._upload, name="fleet", daemon=True).start()

    def _upload(self) -> None:
        from akosha_assets.fleet.upload import upload_fleet

        try:
            upload_fleet(self.settings.inbox(), self.plan, on_upload=self.uploaded.append)
        except BaseException as error:
            self.failure = error
            raise

    def update(self) -> None:
        """Read the number of ingested uploads from the ledger.

        Raises:
            typer.Exit: the fleet could not upload.
        """
        if self.failure is not None:
            raise fail(f"the simulated fleet could not upload: {self.failure}", Exit.FAILED)
        own = {one.upload_id for one in self.uploaded}
        page = self.ledger.uploads(state="ingested", limit=max(1, 2 * self.expected))
        self.ingested = sum(row.upload_id in own for row in page.uploads)

    @property
    def is_ingested(self) -> bool:
        """Whether every upload of the plan is ingested."""
        return len(self.uploaded) == self.expected and self.ingested == self.expected


class _View:
    """Three progress bars: services, uploads, ingested uploads."""

    def __init__(self, progress: Progress, fleet: _Fleet):
        self.progress, self.fleet = progress, fleet
        self.services: TaskID = progress.add_task("services", total=1, note="Dagster and the API are starting")
        self.uploaded: TaskID = progress.add_task(
            "uploaded", total=fleet.expected, note="into the inbox, as Session-Buddy does"
        )
        self.ingested: TaskID = progress.add_task("ingested", total=fleet.expected, note="")
        self.refreshed_at = 0.0

    def show_started(self) -> None:
        """Complete the bar of the services."""
        self.progress.update(self.services, completed=1, note="")

    def refresh(self) -> None:
        """Update the bars, at most three times a second."""
        if time.monotonic() - self.refreshed_at > 0.3:
            self.refreshed_at = time.monotonic()
            self.fleet.update()
            memories = sum(one.memories for one in self.fleet.uploaded)
            self.progress.update(self.uploaded, completed=len(self.fleet.uploaded), note=f"{memories:,} memories")
            remaining = self.fleet.expected - self.fleet.ingested
            note = (
                "the upload sensor starts an ingest run"
                if not self.fleet.ingested
                else f"{remaining} remain"
                if remaining
                else "in the hot table"
            )
            self.progress.update(self.ingested, completed=self.fleet.ingested, note=note)


def _wait_until(
    supervisor: Supervisor, condition: Callable[[], bool], *, within_seconds: float, waiting_for: str
) -> None:
    deadline = time.monotonic() + within_seconds
    while not supervisor.stopping and not condition():
        if time.monotonic() > deadline:
            raise fail(
                f"waited {within_seconds:.0f} s for {waiting_for}; see the logs in {supervisor.logs}", Exit.FAILED
            )
        supervisor.restart_dead_services()
        time.sleep(0.2)


def _search(supervisor: Supervisor, fleet: _Fleet, ports: Ports) -> None:
    """Search over HTTP for the last upload until it is found, and print the answer."""
    newest = max(fleet.uploaded, key=lambda one: one.uploaded_at)
    words = " ".join(newest.samples[-1].split()[:QUESTION_WORDS])
    url, answer, question = services.api_url(ports), dict[str, Any](), {"query": words, "limit": 3}

    def is_found() -> bool:
        answer.update(call("POST", url, "/api/v1/search", body=question))
        return any(one["arrived_at"] >= fleet.plan.now.isoformat() for one in answer["results"])

    _wait_until(
        supervisor,
        is_found,
        within_seconds=SEARCHABLE_SECONDS,
        waiting_for=f"a search for {words!r} to find the last upload",
    )
    if answer:
        console.print(f"\n[bold]akosha search[/] {words!r}\n", highlight=False)
        print_answer(question, answer)

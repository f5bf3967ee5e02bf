"""`akosha up`: runs all services of one machine in the foreground; SIGTERM or Ctrl-C drains and stops them.

The services are defined in `services.py` and run by `supervisor.py`; `demo.py` uses the functions here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from akosha_assets.cli import services
from akosha_assets.cli.output import Exit, console, fail
from akosha_assets.cli.services import Ports
from akosha_assets.cli.supervisor import ServiceFailed, Supervisor, Unavailable, require_free
from akosha_assets.lake.request_guard import is_loopback
from akosha_assets.lake.settings import LakeSettings

ApiPort = Annotated[int, typer.Option(envvar="AKOSHA_API_PORT", min=1, max=65535, help="Port of the API.")]
ApiHost = Annotated[str, typer.Option(envvar="AKOSHA_API_HOST", help="Address that the API listens on.")]
DagsterPort = Annotated[
    int, typer.Option(envvar="AKOSHA_DAGSTER_PORT", min=1, max=65535, help="Port of the Dagster UI.")
]
CodePort = Annotated[
    int | None,
    typer.Option(
        envvar="AKOSHA_CODE_PORT",
        min=1,
        max=65535,
        help="Port of the code server, open to every local account. Unset: a UNIX socket for this account only.",
    ),
]
API_PORT, DAGSTER_PORT = 8682, 3000
STOP_ORDER = ("daemon", "code-server", "webserver", "api")
START_SECONDS = 180


def up(
    api_port: ApiPort = API_PORT,
    dagster_port: DagsterPort = DAGSTER_PORT,
    code_port: CodePort = None,
    api_host: ApiHost = services.HOST,
    no_dagster: Annotated[bool, typer.Option("--no-dagster", help="Start the API alone.")] = False,
) -> None:
    """Start Dagster and the API, and keep them running until Ctrl-C or SIGTERM.

    Exit status 0: stopped by a signal; 1: a service could not be started or died too often; 3: a port or the home is in
    use.
    """
    ports = Ports(api=api_port, dagster=dagster_port, code=code_port, api_host=api_host)
    settings = LakeSettings()
    with supervised(settings) as supervisor:
        start_services(supervisor, ports, settings, dagster=not no_dagster)
        if not supervisor.stopping:
            print_addresses(ports, settings, dagster=not no_dagster)
        run_until_stopped(supervisor)


@contextmanager
def supervised(settings: LakeSettings) -> Iterator[Supervisor]:
    """A supervisor on the home of `settings`; on exit all its services are stopped, and its errors end the command."""
    settings.home.mkdir(parents=True, exist_ok=True)
    if not settings.inbox_url:
        # A folder that an operator names must exist: where it does not, that is an outage.
        (settings.home / "inbox").mkdir(exist_ok=True)
    try:
        supervisor = Supervisor(settings.home, drain_seconds=settings.drain_seconds, report=_report)
    except Unavailable as error:
        raise fail(str(error), Exit.UNAVAILABLE) from error
    supervisor.catch_signals()
    try:
        yield supervisor
    except Unavailable as error:
        raise fail(str(error), Exit.UNAVAILABLE) from error
    except ServiceFailed as error:
        raise fail(str(error), Exit.FAILED) from error
    finally:
        if supervisor.stopping:
            _report(f"stopping; uploads in flight are finished or released within {settings.drain_seconds} s")
        supervisor.stop(*STOP_ORDER)


def start_services(
    supervisor: Supervisor,
    ports: Ports,
    settings: LakeSettings,
    *,
    dagster: bool,
    on_poll: Callable[[], object] | None = None,
) -> None:
    """Start the API and, with `dagster`, Dagster; returns once all are ready, or when a stop was requested.

    Raises:
        Unavailable: a port is in use.
        ServiceFailed: a service ended, or was not ready in time.
    """
    token, home = services.dagster_token(settings), settings.home
    api = services.api(home, ports, token, dagster=dagster)
    if not dagster:
        require_free(api)
        supervisor.start(api)
    else:
        code = services.code_server(home, ports, token, drain_seconds=settings.drain_seconds)
        workspace = services.write_workspace(home, ports)
        webserver = services.webserver(home, ports, workspace, token)
        for service in (api, code, webserver):
            if service.port is not None:
                require_free(service)
        supervisor.start(api)
        supervisor.start(services.instance(home))
        # The code server opens Dagster's storage too, so it waits until the storage is migrated.
        supervisor.wait_until_done("instance", within_seconds=START_SECONDS, on_poll=on_poll)
        if not supervisor.stopping:
            supervisor.start(code)
            supervisor.wait_until_ready("code-server", within_seconds=START_SECONDS, on_poll=on_poll)
        if not supervisor.stopping:
            supervisor.start(webserver)
            supervisor.start(services.daemon(home, ports, workspace, token))
            supervisor.wait_until_ready("webserver", "daemon", within_seconds=START_SECONDS, on_poll=on_poll)
    supervisor.wait_until_ready("api", within_seconds=START_SECONDS, on_poll=on_poll)


def run_until_stopped(supervisor: Supervisor) -> None:
    """Restart services that die, until a stop is requested."""
    while not supervisor.stopping:
        supervisor.restart_dead_services()
        time.sleep(0.2)


def print_addresses(ports: Ports, settings: LakeSettings, *, dagster: bool) -> None:
    """Print the addresses of the services."""
    console.print()
    if dagster:
        # On one line, so that terminals recognise the link.
        console.print(
            f"  [bold]Dagster UI[/]   {services.dagster_address(ports, settings)}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"  [bold]API[/]          {services.api_url(ports)}/docs", highlight=False)
    console.print(f"  [bold]MCP[/]          {services.api_url(ports)}/mcp", highlight=False)
    if not is_loopback(ports.api_host):
        console.print(
            f"  The API listens on {ports.api_host}: everyone who can reach it can read every memory.",
            highlight=False,
            style="yellow",
        )
    console.print("  Ctrl-C drains and stops everything.\n", highlight=False, style="dim")


def _report(message: str) -> None:
    console.print(message, highlight=False, soft_wrap=True)

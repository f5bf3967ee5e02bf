"""`akosha up`: all services of one machine in the foreground, drained and stopped on SIGTERM or Ctrl-C.

Which services there are is in `services.py`, how processes are kept in `supervisor.py`; `demo.py` builds on
`services_up`.
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
        help="Port of the code server, open to every account here; a UNIX socket is not.",
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
    """Start Dagster and the API, and keep them running until Ctrl-C or SIGTERM."""
    ports = Ports(api_port, dagster_port, code_port, api_host)
    with services_up(ports, dagster=not no_dagster) as (supervisor, bring_up):
        bring_up(None)
        if not supervisor.stopping:
            addresses(ports, dagster=not no_dagster)
        stay(supervisor)


@contextmanager
def services_up(
    ports: Ports, *, dagster: bool
) -> Iterator[tuple[Supervisor, Callable[[Callable[[], object] | None], None]]]:
    """A supervisor, and a function that starts the services and returns once they answer; on leaving, all are stopped."""
    settings = LakeSettings()
    home = settings.home
    home.mkdir(parents=True, exist_ok=True)

    try:
        supervisor = Supervisor(home, drain_seconds=settings.drain_seconds, say=_say)
    except Unavailable as error:
        raise fail(str(error), Exit.UNAVAILABLE) from error
    supervisor.catch_signals()

    def bring_up(meanwhile: Callable[[], object] | None) -> None:
        token = services.dagster_token(settings)
        api = services.api(home, ports, token)
        code = services.code_server(home, ports, token, drain_seconds=settings.drain_seconds)
        workspace = services.write_workspace(home, ports)
        web, daemon = services.webserver(home, ports, workspace, token), services.daemon(home, ports, workspace, token)
        for service in (api, code, web) if dagster else (api,):
            if service.port is not None:
                require_free(service)
        supervisor.start(api)
        if dagster:
            supervisor.start(services.instance(home))
            # The code server opens the storage as well: on a new home each would take the other's half-made tables for
            # old ones.
            supervisor.wait_until_done("instance", within_seconds=START_SECONDS, meanwhile=meanwhile)
            if not supervisor.stopping:
                supervisor.start(code)
                supervisor.wait_until_answering("code-server", within_seconds=START_SECONDS, meanwhile=meanwhile)
            if not supervisor.stopping:
                supervisor.start(web)
                supervisor.start(daemon)
                supervisor.wait_until_answering(
                    "webserver", "daemon", within_seconds=START_SECONDS, meanwhile=meanwhile
                )
        supervisor.wait_until_answering("api", within_seconds=START_SECONDS, meanwhile=meanwhile)

    try:
        yield supervisor, bring_up
    except Unavailable as error:
        raise fail(str(error), Exit.UNAVAILABLE) from error
    except ServiceFailed as error:
        raise fail(str(error), Exit.FAILED) from error
    finally:
        if supervisor.stopping:
            _say(f"stopping; what is being taken in is finished or handed back within {settings.drain_seconds} s")
        supervisor.stop(*STOP_ORDER)


def stay(supervisor: Supervisor) -> None:
    """Services are looked after until a stop is asked for."""
    while not supervisor.stopping:
        supervisor.look_after()
        time.sleep(0.2)


def addresses(ports: Ports, *, dagster: bool) -> None:
    """The addresses are printed."""
    console.print()
    if dagster:
        # Whole on one line, so that a terminal opens all of it.
        console.print(
            f"  [bold]Dagster UI[/]   {services.dagster_address(ports, LakeSettings())}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"  [bold]API[/]          {services.api_url(ports)}/docs", highlight=False)
    console.print(f"  [bold]MCP[/]          {services.api_url(ports)}/mcp", highlight=False)
    if not is_loopback(ports.api_host):
        console.print(
            f"  The API listens on {ports.api_host}: whoever reaches it may read every memory.",
            highlight=False,
            style="yellow",
        )
    console.print("  Ctrl-C drains and stops everything.\n", highlight=False, style="dim")


def _say(message: str) -> None:
    console.print(message, highlight=False, soft_wrap=True)

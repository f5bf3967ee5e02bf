"""`python -m akosha_assets.dagster_webserver`: Dagster's webserver behind `dagster_guard.py`, in one process.

Dagster's own command cannot run it behind a guard. Only the guard listens, so no other account can bypass it.
"""

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from starlette.applications import Starlette

from akosha_assets.bounded_http import bounded
from akosha_assets.dagster_guard import DagsterGuard
from akosha_assets.lake import operator_token
from akosha_assets.lake.errors import InvalidSettings
from akosha_assets.lake.settings import LakeSettings

# The defaults of Dagster's own command.
LIVE_POLL_MS = 2000
HEAD_SECONDS, SEND_SECONDS, CONNECTIONS = 10.0, 60.0, 256
STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, POOL_OVERFLOW = 15_000, 3600, 20


def create_app(context: WorkspaceProcessContext, *, token: str, host: str, port: int) -> DagsterGuard:
    """Dagster's UI and GraphQL over `context`, for callers with `token`."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield

    app = create_app_from_workspace_process_context(context, "", LIVE_POLL_MS, lifespan=lifespan)
    return DagsterGuard(app, token=token, host=host, port=port)


def config(app: DagsterGuard, *, host: str, port: int) -> uvicorn.Config:
    """The server configuration: bounded request heads, send times and connections."""
    http = bounded(head_seconds=HEAD_SECONDS, send_seconds=SEND_SECONDS, most=CONNECTIONS)
    return uvicorn.Config(app, host=host, port=port, http=http, log_level="warning")


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m akosha_assets.dagster_webserver", description="Serve Dagster's UI behind a token."
    )
    parser.add_argument("-w", "--workspace", required=True, help="workspace file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("-p", "--port", default=3000, type=int, help="port to listen on")
    arguments = parser.parse_args()
    try:
        settings = LakeSettings()
    except InvalidSettings as error:
        sys.exit(str(error))
    token = settings.dagster_token.get_secret_value() or operator_token.read_or_create(settings.home)
    if not token:
        sys.exit(
            f"no token: {operator_token.path(settings.home)} cannot be written, and AKOSHA_DAGSTER_TOKEN is empty; "
            "set it"
        )
    configure_loggers(formatter="colored", log_level="INFO")
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, POOL_OVERFLOW)
        target = WorkspaceFileTarget([arguments.workspace])
        with WorkspaceProcessContext(
            instance, version=__version__, read_only=False, workspace_load_target=target
        ) as context:
            app = create_app(context, token=token, host=arguments.host, port=arguments.port)
            uvicorn.Server(config(app, host=arguments.host, port=arguments.port)).run()


if __name__ == "__main__":
    main()

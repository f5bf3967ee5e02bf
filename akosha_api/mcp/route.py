"""`POST /mcp`: the server behind it, which is made when the first agent asks.

The SDK takes 0.4 s of processor time and 23 MiB to import. A start does not wait for that, and a service that no agent
asks never pays it. Which messages there are is in `server.py`.
"""

import asyncio
import gc

from fastapi import FastAPI
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"


class _Agents:
    def __init__(self) -> None:
        self._server: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message."""
        if self._server is None:
            self._server = await asyncio.to_thread(_made)
        await self._server(scope, receive, send)


class _McpRoute(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """With and without a slash at the end: a client that is redirected may lose its message on the way."""
        match, found = super().matches({**scope, "path": scope["path"].removesuffix("/")})
        # The gate counts by it. Routes of FastAPI say so themselves.
        return match, found if match is Match.NONE else {**found, "route": self}


def install(app: FastAPI) -> None:
    """`app` answers agents. Only POST: nothing is kept between messages, so there is no stream to GET and no session to
    DELETE.
    """
    app.router.routes.append(_McpRoute(PATH, _Agents(), methods=["POST"]))


def _made() -> ASGIApp:
    from akosha_api.mcp.server import application

    # As at the start of the service: what was imported stays, and need not be looked through for garbage.
    gc.freeze()
    return application()

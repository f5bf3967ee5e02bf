"""`POST /mcp`: mounts the MCP server, which is created for the first message.

Importing the SDK takes 0.4 s and 23 MiB. The start does not wait for it, and a service without agents does not pay it.
"""

import asyncio
import gc

from fastapi import FastAPI
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"


class _LazyServer:
    def __init__(self) -> None:
        self._server: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one message."""
        if self._server is None:
            self._server = await asyncio.to_thread(_create)
        await self._server(scope, receive, send)


class _McpRoute(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Matches with and without a trailing slash: a redirected client may lose its message."""
        match, child_scope = super().matches({**scope, "path": scope["path"].removesuffix("/")})
        # The middleware counts requests by route. FastAPI's own routes set it themselves.
        return match, child_scope if match is Match.NONE else {**child_scope, "route": self}


def install(app: FastAPI) -> None:
    """Adds the route to `app`. Only POST: without sessions there is no stream to GET and none to DELETE."""
    app.router.routes.append(_McpRoute(PATH, _LazyServer(), methods=["POST"]))


def _create() -> ASGIApp:
    from akosha_api.mcp.server import application

    # As at the start of the service: imported objects stay and need no garbage collection.
    gc.freeze()
    return application()

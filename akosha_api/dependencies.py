"""Annotated aliases for what routes ask for.

They are coroutines because FastAPI hands every other function to a thread, which costs more than the function.
"""

import hmac
import ipaddress
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status

from akosha_api.metrics import Watched
from akosha_api.serving import Serving


async def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


async def _watched(request: Request) -> Watched:
    watched: Watched = request.app.state.watched
    return watched


async def _operator(request: Request) -> None:
    """The caller may change things: it is on this machine, or it holds the admin token.

    What a proxy forwards comes from elsewhere, whatever address the proxy itself has.
    """
    serving: Serving = request.app.state.serving
    token = serving.settings.admin_token.get_secret_value()
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token and hmac.compare_digest(given.encode(), token.encode()):
        return
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    # A page that somebody opens in a browser of this machine must not do it behind their back.
    elsewhere = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if request.client and not forwarded and not elsewhere and ipaddress.ip_address(request.client.host).is_loopback:
        return
    raise HTTPException(
        status.HTTP_403_FORBIDDEN, "only callers on this machine, or with AKOSHA_API_ADMIN_TOKEN as bearer token, may do this"
    )


ServingDep = Annotated[Serving, Depends(_serving)]
WatchedDep = Annotated[Watched, Depends(_watched)]
OperatorDep = Annotated[None, Depends(_operator)]

"""Annotated aliases for what routes ask for, and who may ask.

They are coroutines because FastAPI hands every other function to a thread, which costs more than the function.
"""

import hmac
import ipaddress
import re
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status

from akosha_api.metrics import Watched
from akosha_api.serving import Serving

PORT = re.compile(r":\d+$")


def is_of_another_site(request: Request) -> bool:
    """A browser sent it for a page of another site, or of a name that its owner made point here (DNS rebinding).

    Where the service listens on loopback only, it is asked by no other names than this machine's own.
    """
    headers = request.headers
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    host, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return True
    return bool(host) and _is_loopback(request.app.state.serving.settings.host) and not _is_loopback(PORT.sub("", host).strip("[]"))


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


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
    if request.client and not forwarded and not is_of_another_site(request) and ipaddress.ip_address(request.client.host).is_loopback:
        return
    raise HTTPException(
        status.HTTP_403_FORBIDDEN, "only callers on this machine, or with AKOSHA_API_ADMIN_TOKEN as bearer token, may do this"
    )


ServingDep = Annotated[Serving, Depends(_serving)]
WatchedDep = Annotated[Watched, Depends(_watched)]
OperatorDep = Annotated[None, Depends(_operator)]

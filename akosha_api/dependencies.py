"""Annotated aliases for what routes ask for, and who may ask.

They are coroutines because FastAPI hands every other function to a thread, which costs more than the function.
"""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security, status
from fastapi.security import HTTPBearer

from akosha_api.app_state import AppState
from akosha_api.metrics import RequestMetrics
from akosha_assets.lake import operator_token

# What /docs shows; the token itself is checked below.
BEARER = HTTPBearer(
    auto_error=False, scheme_name="operator token", description="The content of AKOSHA_HOME/operator-token."
)


async def _serving(request: Request) -> AppState:
    serving: AppState = request.app.state.serving
    return serving


async def _watched(request: Request) -> RequestMetrics:
    watched: RequestMetrics = request.app.state.watched
    return watched


async def _operator(request: Request, _shown: Annotated[object, Security(BEARER)]) -> None:
    """The caller may change things: it holds the operator token.

    Where it calls from proves nothing: a proxy on this machine calls from loopback for the whole network.
    """
    token: str = request.app.state.operator_token
    given = operator_token.bearer(request.headers.get("authorization", ""))
    if not operator_token.matches(given, token):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"found {'another token' if given else 'no token'}; expected Authorization: Bearer with the operator "
            "token, which is "
            f"AKOSHA_API_ADMIN_TOKEN or, where that is empty, the content of AKOSHA_HOME/{operator_token.NAME}",
        )


ServingDep = Annotated[AppState, Depends(_serving)]
WatchedDep = Annotated[RequestMetrics, Depends(_watched)]
OperatorDep = Annotated[None, Depends(_operator)]

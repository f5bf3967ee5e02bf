"""Dependencies of routes, and the check of the operator token.

They are coroutines: FastAPI runs other functions in a thread, which costs more than the functions themselves.
"""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security, status
from fastapi.security import HTTPBearer

from akosha_api.app_state import AppState
from akosha_api.metrics import RequestMetrics
from akosha_api.operator_check import OperatorCheck
from akosha_assets.lake import operator_token

# For /docs only; `_require_operator` checks the token.
BEARER = HTTPBearer(
    auto_error=False, scheme_name="operator token", description="The content of AKOSHA_HOME/operator-token."
)


async def _app_state(request: Request) -> AppState:
    return state_of(request)


async def _request_metrics(request: Request) -> RequestMetrics:
    metrics: RequestMetrics = request.app.state.metrics
    return metrics


async def _require_operator(request: Request, _shown: Annotated[object, Security(BEARER)]) -> None:
    """Refuses a caller without the operator token.

    The address of the caller proves nothing: a proxy on this machine forwards requests of the whole network.
    """
    operator: OperatorCheck = request.app.state.operator
    sent = operator_token.bearer(request.headers.get("authorization", ""))
    if not operator.token:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"there is no operator token, because AKOSHA_HOME/{operator_token.NAME} could not be stored; the log has "
            f"the cause, and the service tries again every {operator.seconds:.0f} s",
        )
    if not operator.matches(sent):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"found {'another token' if sent else 'no token'}; expected Authorization: Bearer with the operator token: "
            f"AKOSHA_API_ADMIN_TOKEN or, where that is empty, the content of AKOSHA_HOME/{operator_token.NAME}",
        )


def state_of(request: Request) -> AppState:
    """The state of the service that answers `request`."""
    state: AppState = request.app.state.akosha
    return state


StateDep = Annotated[AppState, Depends(_app_state)]
MetricsDep = Annotated[RequestMetrics, Depends(_request_metrics)]
OperatorDep = Annotated[None, Depends(_require_operator)]

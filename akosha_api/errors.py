"""Maps every error to a status and a problem document."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from akosha_api import validation_errors
from akosha_api.problems import MEDIA_TYPE, TYPE_PREFIX, ProblemName
from akosha_assets.lake.errors import (
    AmbiguousUpload,
    EmbeddingUnavailable,
    InvalidRequest,
    LakeError,
    LedgerDamaged,
    LedgerMismatch,
    NotFound,
    StoreUnavailable,
    TierUnavailable,
    TransientError,
)

logger = logging.getLogger(__name__)


class Overloaded(Exception):
    """The queue of searches is full."""

    def __init__(self, waiting: int):
        super().__init__(f"{waiting} searches are queued already; try again in a second")


class TooSlow(Exception):
    """The answer took longer than its time limit."""

    def __init__(self, seconds: float, advice: str = "narrow the question with filters or a shorter time range"):
        super().__init__(f"no answer within {seconds:g} s; {advice}")


# The first class that matches decides, so a subclass comes before its base class.
STATUS: tuple[tuple[type[Exception], int, ProblemName], ...] = (
    (InvalidRequest, 422, ProblemName.INVALID_REQUEST),
    (RequestValidationError, 422, ProblemName.INVALID_REQUEST),
    (NotFound, 404, ProblemName.NOT_FOUND),
    (AmbiguousUpload, 409, ProblemName.AMBIGUOUS_UPLOAD),
    (EmbeddingUnavailable, 503, ProblemName.EMBEDDING_UNAVAILABLE),
    (StoreUnavailable, 503, ProblemName.STORE_UNAVAILABLE),
    (TierUnavailable, 503, ProblemName.TIER_UNAVAILABLE),
    (TransientError, 503, ProblemName.TRY_AGAIN),
    (LedgerMismatch, 503, ProblemName.LEDGER_MISMATCH),
    (LedgerDamaged, 503, ProblemName.LEDGER_DAMAGED),
    (Overloaded, 503, ProblemName.OVERLOADED),
    (TooSlow, 504, ProblemName.TOO_SLOW),
    (LakeError, 500, ProblemName.LAKE_ERROR),
)
# Newer versions of Python have other phrases for these.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
RETRY_AFTER = {
    ProblemName.OVERLOADED: "1",
    ProblemName.STORE_UNAVAILABLE: "5",
    ProblemName.TIER_UNAVAILABLE: "5",
    ProblemName.TRY_AGAIN: "5",
}
# The names of errors that the framework raises.
HTTP_NAMES = {
    403: ProblemName.FORBIDDEN,
    404: ProblemName.NOT_FOUND,
    405: ProblemName.METHOD_NOT_ALLOWED,
    413: ProblemName.BODY_TOO_LARGE,
    415: ProblemName.UNSUPPORTED_MEDIA_TYPE,
}
FIELDS_IN_DETAIL = 5


def document(
    request: Request, status: int, name: ProblemName, detail: str, fields: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A problem document. `fields` has `field` and `message` of each invalid field."""
    body: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{name}",
        "title": TITLES.get(status, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "errors": list(fields),
    }
    if request_id := getattr(request.state, "request_id", None):
        body["request_id"] = request_id
    return body


def describe(request: Request, error: Exception) -> tuple[ProblemName, dict[str, Any]]:
    """The name and the document for an error. An error that `STATUS` does not have is logged with its traceback."""
    status, name = next(
        ((status, name) for kind, status, name in STATUS if isinstance(error, kind)), (500, ProblemName.INTERNAL_ERROR)
    )
    if isinstance(error, RequestValidationError):
        fields = validation_errors.validation_fields(error.errors())
        detail = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:FIELDS_IN_DETAIL])
        return name, document(request, status, name, detail, fields)
    if name is ProblemName.INTERNAL_ERROR:
        logger.error("a request raised an unexpected error", exc_info=error, extra={"path": request.url.path})
        return name, document(request, status, name, f"{type(error).__name__}; the service's log has its traceback")
    if status >= 500:
        logger.warning("request failed", extra={"path": request.url.path, "problem": name, "cause": str(error)})
    fields = [{"field": error.field, "message": str(error)}] if isinstance(error, InvalidRequest) else []
    body = document(request, status, name, str(error), fields)
    if isinstance(error, AmbiguousUpload):
        body |= {"system_id": list(error.found), "state": list(error.found.values())}
    return name, body


def respond(
    request: Request, status: int, name: ProblemName, detail: str, *, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The response with a problem document."""
    return JSONResponse(
        document(request, status, name, detail), status, _retry_after(name) | (headers or {}), MEDIA_TYPE
    )


def respond_to(request: Request, error: Exception) -> JSONResponse:
    """The response to a request that raised `error`."""
    name, body = describe(request, error)
    return JSONResponse(body, body["status"], _retry_after(name), MEDIA_TYPE)


def _retry_after(name: ProblemName) -> dict[str, str]:
    return {"Retry-After": RETRY_AFTER[name]} if name in RETRY_AFTER else {}


def _respond_to_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    name = HTTP_NAMES.get(status, ProblemName.BAD_REQUEST if status < 500 else ProblemName.INTERNAL_ERROR)
    detail = str(error.detail)
    if detail == HTTPStatus(status).phrase:
        # The framework's own detail only repeats the title.
        allowed = headers.get("allow", headers.get("Allow"))
        if allowed == "GET":
            allowed = headers["Allow"] = "GET, HEAD"
        what = f"{request.method} is not allowed; expected {allowed}" if allowed else "there is no such route"
        detail = f"{what}; /docs shows every route"
    return respond(request, status, name, detail, headers=headers)


def install(app: FastAPI) -> None:
    """Every error of `app` is answered with a problem document."""
    for kind in (*(kind for kind, _, _ in STATUS), Exception):
        app.add_exception_handler(kind, respond_to)
    app.add_exception_handler(HTTPException, _respond_to_http)

"""Every error a caller can meet, in one shape (RFC 9457 problem details), and the one table from error class to status."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from akosha_api import validation_errors
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

MEDIA_TYPE = "application/problem+json"


class Overloaded(Exception):
    """As many searches wait as may wait."""

    def __init__(self, waiting: int):
        super().__init__(f"{waiting} searches wait already; ask again in a second")


class TooSlow(Exception):
    """The answer took longer than a caller waits."""

    def __init__(self, seconds: float, advice: str = "narrow the question with filters or a shorter time range"):
        super().__init__(f"no answer within {seconds:g} s; {advice}")


# The first class that fits decides, so a subclass stands before its base.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (InvalidRequest, 422, "invalid-request"),
    (RequestValidationError, 422, "invalid-request"),
    (NotFound, 404, "not-found"),
    (AmbiguousUpload, 409, "ambiguous-upload"),
    (EmbeddingUnavailable, 503, "embedding-unavailable"),
    (StoreUnavailable, 503, "store-unavailable"),
    (TierUnavailable, 503, "tier-unavailable"),
    (TransientError, 503, "try-again"),
    (LedgerMismatch, 503, "ledger-mismatch"),
    (LedgerDamaged, 503, "ledger-damaged"),
    (Overloaded, 503, "overloaded"),
    (TooSlow, 504, "too-slow"),
    (LakeError, 500, "lake-error"),
)
UNEXPECTED = "internal-error"
# These have other phrases in later versions of Python.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
RETRY_AFTER = {"overloaded": "1", "store-unavailable": "5", "tier-unavailable": "5", "try-again": "5"}


def document(
    request: Request, status: int, name: str, detail: str, fields: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A problem document. `fields` names each field at fault: field, message."""
    body: dict[str, Any] = {
        "type": f"urn:akosha:problem:{name}",
        "title": TITLES.get(status, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "errors": list(fields),
    }
    if request_id := getattr(request.state, "request_id", None):
        body["request_id"] = request_id
    return body


def of(request: Request, error: Exception) -> tuple[str, dict[str, Any]]:
    """The name and the document of a problem for an error; one that is not in the table is logged with its traceback."""
    status, name = next(((status, name) for kind, status, name in STATUS if isinstance(error, kind)), (500, UNEXPECTED))
    if isinstance(error, RequestValidationError):
        fields = validation_errors.validation_fields(error.errors())
        return name, document(
            request, status, name, "; ".join(f"{item['field']}: {item['message']}" for item in fields[:5]), fields
        )
    if name == UNEXPECTED:
        logger.error("request met an unexpected error", exc_info=error, extra={"path": request.url.path})
        return name, document(request, status, name, f"{type(error).__name__}; the log of the service says more")
    if status >= 500:
        logger.warning("request failed", extra={"path": request.url.path, "problem": name, "cause": str(error)})
    fields = [{"field": error.field, "message": str(error)}] if isinstance(error, InvalidRequest) else []
    body = document(request, status, name, str(error), fields)
    if isinstance(error, AmbiguousUpload):
        body |= {"system_id": list(error.found), "state": list(error.found.values())}
    return name, body


def problem(
    request: Request,
    status: int,
    name: str,
    detail: str,
    errors: Sequence[dict[str, Any]] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem document as a response."""
    retry = {"Retry-After": RETRY_AFTER[name]} if name in RETRY_AFTER else {}
    return JSONResponse(document(request, status, name, detail, errors), status, retry | (headers or {}), MEDIA_TYPE)


def raised(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that met `error`."""
    name, body = of(request, error)
    retry = {"Retry-After": RETRY_AFTER[name]} if name in RETRY_AFTER else {}
    return JSONResponse(body, body["status"], retry, MEDIA_TYPE)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    name = HTTPStatus(status).phrase.lower().replace(" ", "-")
    detail = str(error.detail)
    if detail == HTTPStatus(status).phrase:
        # The framework's own: it says no more than the title.
        allowed = headers.get("allow", headers.get("Allow"))
        if allowed == "GET":
            allowed = headers["Allow"] = "GET, HEAD"
        what = f"{request.method} is not answered; expected {allowed}" if allowed else "there is no such route"
        detail = f"{what}; /docs shows every route"
    return problem(request, status, name, detail, headers=headers)


def install(app: FastAPI) -> None:
    """Every error of `app` is answered with a problem document."""
    for kind in (*(kind for kind, _, _ in STATUS), Exception):
        app.add_exception_handler(kind, raised)
    app.add_exception_handler(HTTPException, _http)

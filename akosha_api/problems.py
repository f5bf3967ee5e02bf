"""The problems that the service answers with (RFC 9457): their names and their document."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:akosha:problem:"


class ProblemName(StrEnum):
    """The last part of a problem's `type`."""

    AMBIGUOUS_UPLOAD = "ambiguous-upload"
    BAD_REQUEST = "bad-request"
    BODY_TOO_LARGE = "body-too-large"
    CROSS_ORIGIN = "cross-origin"
    CROSS_SITE = "cross-site"
    EMBEDDING_UNAVAILABLE = "embedding-unavailable"
    FORBIDDEN = "forbidden"
    HOST_NOT_ALLOWED = "host-not-allowed"
    INTERNAL_ERROR = "internal-error"
    INVALID_REQUEST = "invalid-request"
    LAKE_ERROR = "lake-error"
    LEDGER_DAMAGED = "ledger-damaged"
    LEDGER_MISMATCH = "ledger-mismatch"
    LENGTH_REQUIRED = "length-required"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    NOT_FOUND = "not-found"
    OVERLOADED = "overloaded"
    REQUEST_TIMEOUT = "request-timeout"
    STORE_UNAVAILABLE = "store-unavailable"
    TIER_UNAVAILABLE = "tier-unavailable"
    TOO_SLOW = "too-slow"
    TRY_AGAIN = "try-again"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"


class Problem(BaseModel):
    """RFC 9457 problem details: every error has this shape."""

    type: Annotated[
        str,
        Field(
            examples=[f"{TYPE_PREFIX}invalid-request"],
            json_schema_extra={"enum": [f"{TYPE_PREFIX}{name}" for name in ProblemName]},
        ),
    ]
    title: str
    status: int
    detail: str
    instance: str
    errors: Annotated[list[dict[str, Any]], Field(description="Each invalid field: `field` and `message`.")]
    request_id: str | None = None

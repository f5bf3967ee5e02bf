"""`GET /api/v1/memories/{system_id}/{kind}/{id}`."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from akosha_api.dependencies import ServingDep
from akosha_api.models import FullMemory
from akosha_api.path_values import MEMORY
from akosha_api.validation_errors import Time
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.search.memories import read_memory as read_from_tables

# Digits alone are a version, and a version comes first.
AsOf = Annotated[int, Field(ge=0)] | Time | None

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get(f"/memories/{MEMORY}", response_model=FullMemory)
async def read_memory(
    system_id: str,
    kind: str,
    id: str,
    serving: ServingDep,
    response: Response,
    as_of: Annotated[
        AsOf, Query(description="The tables as they stood: a time, or a version of the hot table.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="`ETag` of an earlier answer; 304 while nothing changed.")
    ] = None,
) -> Any:
    """One memory with its provenance, from the hottest tier that holds it."""
    identity = Identity(system_id, kind, id)
    snapshot = await serving.snapshot(as_of)
    found = await serving.pool.run(
        lambda: read_from_tables(serving.lake, snapshot, identity, is_past=as_of is not None)
    )
    # Weak, since what is sent may be compressed or not.
    tag = f'"{hashlib.blake2b(repr(found).encode(), digest_size=12).hexdigest()}"'
    etag = f"W/{tag}"
    if if_none_match is not None and not {tag, "*"}.isdisjoint(
        each.strip().removeprefix("W/") for each in if_none_match.split(",")
    ):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return found

"""`GET /api/v1/memories/{system_id}/{kind}/{id}`."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from akosha_api.dependencies import StateDep
from akosha_api.path_values import MEMORY
from akosha_api.read_models import FullMemory
from akosha_api.validation_errors import Time
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.search import memories

# An integer is a version, so `int` comes first.
AsOf = Annotated[int, Field(ge=0)] | Time | None

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get(f"/memories/{MEMORY}", response_model=FullMemory)
async def read_memory(
    system_id: str,
    kind: str,
    id: str,
    service: StateDep,
    response: Response,
    as_of: Annotated[
        AsOf, Query(description="An earlier version of the tables: a time, or a version of the hot table.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="`ETag` of an earlier answer; 304 while nothing changed.")
    ] = None,
) -> Any:
    """One memory with its provenance, from the hottest tier that has it."""
    identity = Identity(system_id, kind, id)
    snapshot = await service.snapshot(as_of)
    memory = await service.pool.run(
        lambda: memories.read_memory(service.lake, snapshot, identity, is_past=as_of is not None)
    )
    # A weak ETag, because the response may be compressed.
    tag = f'"{hashlib.blake2b(repr(memory).encode(), digest_size=12).hexdigest()}"'
    etag = f"W/{tag}"
    sent = () if if_none_match is None else if_none_match.split(",")
    if any(each.strip().removeprefix("W/") in (tag, "*") for each in sent):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return memory

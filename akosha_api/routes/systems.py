"""`GET /api/v1/systems`."""

from typing import Annotated

from fastapi import APIRouter, Query

from akosha_api import cursors
from akosha_api.dependencies import ServingDep
from akosha_api.models import System, SystemList
from akosha_assets.lake.serving.memories import systems

router = APIRouter(prefix="/api/v1", tags=["systems"])


@router.get("/systems")
async def list_systems(
    serving: ServingDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`cursor` of the page before.")] = None,
) -> SystemList:
    """Systems that have memories here, in order of their ids, with their counts and times."""
    after = cursors.decoded(cursor)
    found, last = await serving.pool.run(lambda: systems(serving.replica.snapshot, limit, after))
    return SystemList(systems=[System.model_validate(system) for system in found], cursor=cursors.encoded(last))

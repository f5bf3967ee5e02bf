"""`GET /api/v1/systems`."""

from typing import Annotated

from fastapi import APIRouter, Query

from akosha_api import cursors
from akosha_api.dependencies import ServingDep
from akosha_api.models import System, SystemList, TierState
from akosha_assets.lake.serving.search.memories import list_systems as page_of_systems
from akosha_assets.lake.serving.search.results import describe_tier

router = APIRouter(prefix="/api/v1", tags=["systems"])


@router.get("/systems")
async def list_systems(
    serving: ServingDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`cursor` of the page before.")] = None,
) -> SystemList:
    """Systems that have memories here, in order of their ids, with their counts and times."""
    after, snapshot = cursors.decoded(cursor), serving.replica.snapshot
    found, last = await serving.pool.run(lambda: page_of_systems(snapshot, limit, after))
    tiers = {name: TierState.model_validate(describe_tier(tier)) for name, tier in snapshot.tiers.items()}
    return SystemList(
        systems=[System.model_validate(system) for system in found], tiers=tiers, cursor=cursors.encoded(last)
    )

"""`GET /api/v1/systems`."""

from typing import Annotated

from fastapi import APIRouter, Query

from akosha_api import cursors
from akosha_api.dependencies import StateDep
from akosha_api.models import TierState
from akosha_api.read_models import System, SystemList
from akosha_assets.lake.serving.search import memories
from akosha_assets.lake.serving.search.results import describe_tier

router = APIRouter(prefix="/api/v1", tags=["systems"])


@router.get("/systems")
async def list_systems(
    service: StateDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`cursor` of the page before.")] = None,
) -> SystemList:
    """Systems with memories, by ascending id, with their counts and times."""
    after, snapshot = cursors.decode(cursor), service.replica.snapshot
    page, last = await service.pool.run(lambda: memories.list_systems(snapshot, limit, after))
    tiers = {name: TierState.model_validate(describe_tier(tier)) for name, tier in snapshot.tiers.items()}
    return SystemList(
        systems=[System.model_validate(system) for system in page], tiers=tiers, cursor=cursors.encode(last)
    )

"""`GET /api/v1/memories/{system_id}/{kind}/{id}`."""

from fastapi import APIRouter

from akosha_api.dependencies import ServingDep
from akosha_api.models import FullMemory
from akosha_assets.lake.serving.memories import memory
from akosha_assets.lake.serving.query import Identity

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get("/memories/{system_id}/{kind}/{id:path}")
async def read_memory(system_id: str, kind: str, id: str, serving: ServingDep) -> FullMemory:
    """One memory with its provenance, from the hottest tier that holds it."""
    identity = Identity(system_id, kind, id)
    return FullMemory.model_validate(await serving.pool.run(lambda: memory(serving.lake, serving.replica.snapshot, identity)))

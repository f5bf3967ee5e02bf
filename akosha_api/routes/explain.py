"""`GET /api/v1/explain/{system_id}/{kind}/{id}`: why a memory is in its tier."""

from datetime import UTC, datetime

from fastapi import APIRouter

from akosha_api.dependencies import StateDep
from akosha_api.path_values import MEMORY
from akosha_assets.lake.errors import NotFound, TableUnreadable
from akosha_assets.lake.lifecycle.explain import Explanation, explain
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.serving.query import Identity

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get(f"/explain/{MEMORY}")
async def explain_memory(system_id: str, kind: str, id: str, service: StateDep) -> Explanation:
    """Its tier and the reason, its next move, the policy, its data files, and the upload and runs that wrote it."""
    policy, today = TierPolicy.of(service.lake.settings), datetime.now(UTC).date()

    def run() -> Explanation:
        try:
            return explain(service.lake, service.ledger(), system_id, kind, id, policy=policy, today=today)
        except NotFound as error:
            # A table that has lost its log looks as if it was never written; the replica still serves it.
            place = service.replica.snapshot.find(Identity(system_id, kind, id))
            if place is None:
                raise
            uri = service.lake.uri(f"lifecycle/{place[0]}")
            raise TableUnreadable(uri, "does not hold the memory that is served from it") from error

    return await service.pool.run(run)

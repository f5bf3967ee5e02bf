"""`GET /api/v1/explain/{system_id}/{kind}/{id}`: why a memory is where it is."""

from datetime import UTC, datetime

from fastapi import APIRouter

from akosha_api.dependencies import ServingDep
from akosha_api.path_values import MEMORY
from akosha_assets.lake.errors import NotFound, TableUnreadable
from akosha_assets.lake.lifecycle.explain import Explanation, explain
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.serving.query import Identity

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get(f"/explain/{MEMORY}")
async def explain_memory(system_id: str, kind: str, id: str, serving: ServingDep) -> Explanation:
    """Tier and reason, the next move, the policy, the files that hold it, and the upload and runs it came by."""
    policy, today = TierPolicy.of(serving.lake.settings), datetime.now(UTC).date()

    def explained() -> Explanation:
        try:
            return explain(serving.lake, serving.ledger(), system_id, kind, id, policy=policy, today=today)
        except NotFound as error:
            # A table whose log is gone looks as if it never was; what is served from it tells otherwise.
            place = serving.replica.snapshot.find(Identity(system_id, kind, id))
            if place is None:
                raise
            address = f"lifecycle/{place[0]}"
            raise TableUnreadable(
                serving.lake.uri(address), "does not hold the memory that is served from it"
            ) from error

    return await serving.pool.run(explained)

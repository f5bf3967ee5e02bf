"""`GET /api/v1/explain/{system_id}/{kind}/{id}`: why a memory is where it is."""

from datetime import UTC, datetime

from fastapi import APIRouter

from akosha_api.dependencies import ServingDep
from akosha_assets.lake.lifecycle.explain import Explanation, explain
from akosha_assets.lake.lifecycle.policy import TierPolicy

router = APIRouter(prefix="/api/v1", tags=["memories"])


@router.get("/explain/{system_id}/{kind}/{id:path}")
async def explain_memory(system_id: str, kind: str, id: str, serving: ServingDep) -> Explanation:
    """Tier and reason, the next move, the policy, the files that hold it, and the upload and runs it came by."""
    policy, today = TierPolicy.of(serving.lake.settings), datetime.now(UTC).date()
    return await serving.pool.run(lambda: explain(serving.lake, serving.ledger(), system_id, kind, id, policy=policy, today=today))

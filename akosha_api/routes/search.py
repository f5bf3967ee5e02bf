"""`POST /api/v1/search`."""

from fastapi import APIRouter

from akosha_api.dependencies import ServingDep, WatchedDep
from akosha_api.models import SearchRequest, SearchResponse

router = APIRouter(prefix="/api/v1", tags=["search"])


@router.post("/search")
async def search(body: SearchRequest, serving: ServingDep, watched: WatchedDep) -> SearchResponse:
    """Memories by meaning, by words or by both, with what each tier and each ranking contributed."""
    question = body.question()
    answer = await serving.pool.run(lambda: serving.searcher.search(serving.replica.snapshot, question))
    watched.searched(answer)
    return SearchResponse.of(answer)

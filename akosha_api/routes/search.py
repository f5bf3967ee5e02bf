"""`POST /api/v1/search` and `/search/batch`."""

from functools import partial

from fastapi import APIRouter, Request

from akosha_api import errors
from akosha_api.dependencies import ServingDep, WatchedDep
from akosha_api.models import BatchRequest, BatchResponse, Problem, SearchRequest, SearchResponse
from akosha_assets.lake.errors import LakeError

router = APIRouter(prefix="/api/v1", tags=["search"])


@router.post("/search")
async def search(body: SearchRequest, request: Request, serving: ServingDep, watched: WatchedDep) -> SearchResponse:
    """Memories by meaning, by words or by both, with what each tier and each ranking contributed."""
    question = body.question()
    answer = await serving.pool.run(lambda: serving.searcher.search(serving.replica.snapshot, question))
    watched.searched(answer, request)
    return SearchResponse.of(answer)


@router.post("/search/batch")
async def search_batch(body: BatchRequest, request: Request, serving: ServingDep, watched: WatchedDep) -> BatchResponse:
    """Up to 32 questions to the same state of the tables; each has its answer or its problem, in order."""
    snapshot = serving.replica.snapshot
    answers: list[SearchResponse | Problem] = []
    for each in body.searches:
        try:
            answer = await serving.pool.run(partial(serving.searcher.search, snapshot, each.question()))
        except LakeError as error:
            answers.append(Problem.model_validate(errors.of(request, error)[1]))
            continue
        watched.searched(answer, request)
        answers.append(SearchResponse.of(answer))
    return BatchResponse(answers=answers)

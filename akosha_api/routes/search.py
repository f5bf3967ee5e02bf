"""`POST /api/v1/search` and `/search/batch`."""

from functools import partial

import orjson
from fastapi import APIRouter, Request, Response

from akosha_api import errors
from akosha_api.direct import DirectRoute
from akosha_api.models import BatchRequest, BatchResponse, SearchRequest, SearchResponse
from akosha_api.serving import Serving
from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.search import Answer
from akosha_assets.lake.serving.snapshot import Snapshot

router = APIRouter(prefix="/api/v1", tags=["search"], route_class=DirectRoute)


@router.post("/search", response_model=SearchResponse)
async def search(body: SearchRequest, request: Request) -> Response:
    """Memories by meaning, by words or by both, with what each tier and each ranking contributed."""
    serving: Serving = request.app.state.serving
    snapshot = await serving.snapshot(body.as_of)
    answer, encoded = await serving.pool.run(partial(_answered, serving, snapshot, body.question()))
    request.app.state.watched.searched(answer, request)
    return Response(encoded, media_type="application/json")


@router.post("/search/batch", response_model=BatchResponse)
async def search_batch(body: BatchRequest, request: Request) -> Response:
    """Up to 32 questions to the same state of the tables; each has its answer or its problem, in order."""
    serving: Serving = request.app.state.serving
    present = serving.replica.snapshot
    answers: list[bytes] = []
    for each in body.searches:
        try:
            snapshot = present if each.as_of is None else await serving.snapshot(each.as_of)
            answer, encoded = await serving.pool.run(partial(_answered, serving, snapshot, each.question()))
        except LakeError as error:
            answers.append(orjson.dumps(errors.of(request, error)[1]))
            continue
        request.app.state.watched.searched(answer, request)
        answers.append(encoded)
    return Response(b'{"answers":[' + b",".join(answers) + b"]}", media_type="application/json")


def _answered(serving: Serving, snapshot: Snapshot, question: Question) -> tuple[Answer, bytes]:
    """The answer and its JSON, which has the fields of `SearchResponse` by construction: checking them costs as much as the search."""
    answer = serving.searcher.search(snapshot, question)
    return answer, orjson.dumps(answer, option=orjson.OPT_UTC_Z)

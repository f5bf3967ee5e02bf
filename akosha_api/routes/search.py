"""`POST /api/v1/search` and `/search/batch`."""

import time
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from akosha_api import errors
from akosha_api.app_state import AppState
from akosha_api.errors import Overloaded, TooSlow
from akosha_api.fast_route import FastRoute, checked
from akosha_api.models import BatchRequest, BatchResponse, SearchRequest, SearchResponse
from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.search.searcher import Answer
from akosha_assets.lake.serving.snapshot import Snapshot

router = APIRouter(prefix="/api/v1", tags=["search"], route_class=FastRoute)


@router.post("/search", response_model=SearchResponse)
async def search(body: SearchRequest, request: Request) -> Response:
    """Memories by meaning, by words or by both, with what each tier and each ranking contributed."""
    serving: AppState = request.app.state.serving
    snapshot = await serving.snapshot(body.as_of)
    answer, encoded = await serving.pool.run(partial(_answered, serving, snapshot, body.question()))
    request.app.state.watched.searched(answer, request)
    return Response(encoded, media_type="application/json")


@router.post("/search/batch", response_model=BatchResponse)
async def search_batch(body: BatchRequest, request: Request) -> Response:
    """Up to 32 questions to the same state of the tables; each has its answer or its problem, in order.

    All together may take as long as one alone; those that are not answered by then have the problem `too-slow`.
    """
    serving: AppState = request.app.state.serving
    present, ends_at = serving.replica.snapshot, time.monotonic() + serving.settings.search_seconds
    answers = [await _one(serving, request, present, asked, ends_at) for asked in body.searches]
    return Response(b'{"answers":[' + b",".join(answers) + b"]}", media_type="application/json")


async def _one(serving: AppState, request: Request, present: Snapshot, asked: Any, ends_at: float) -> bytes:
    """The answer to one question of a batch, or its problem."""
    try:
        body = checked(partial(SearchRequest.model_validate, asked))
        snapshot = present if body.as_of is None else await serving.snapshot(body.as_of, seconds=_left(ends_at))
        answer, encoded = await serving.pool.run(
            partial(_answered, serving, snapshot, body.question()), seconds=_left(ends_at)
        )
    except TooSlow:
        late = TooSlow(
            serving.settings.search_seconds, "all questions of a batch share them; ask this one again, among fewer"
        )
        return orjson.dumps(errors.of(request, late)[1])
    except (LakeError, Overloaded, RequestValidationError) as error:
        return orjson.dumps(errors.of(request, error)[1])
    request.app.state.watched.searched(answer, request)
    return encoded


def _left(ends_at: float) -> float:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise TooSlow(0)
    return left


def _answered(serving: AppState, snapshot: Snapshot, question: Question) -> tuple[Answer, bytes]:
    """The answer and its JSON, which has the fields of `SearchResponse` by construction: checking them costs as much as
    the search.
    """
    answer = serving.searcher.search(snapshot, question)
    return answer, orjson.dumps(answer, option=orjson.OPT_UTC_Z)

"""`POST /api/v1/search` and `/search/batch`."""

import time
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from akosha_api import errors
from akosha_api.app_state import AppState
from akosha_api.dependencies import state_of
from akosha_api.errors import Overloaded, TooSlow
from akosha_api.fast_route import FastRoute, validate
from akosha_api.models import BatchRequest, BatchResponse, SearchRequest, SearchResponse
from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.search.searcher import Answer
from akosha_assets.lake.serving.snapshot import Snapshot

router = APIRouter(prefix="/api/v1", tags=["search"], route_class=FastRoute)


@router.post("/search", response_model=SearchResponse)
async def search(body: SearchRequest, request: Request) -> Response:
    """Memories by vector, by keyword or by both, with what each tier and each ranking contributed."""
    service = state_of(request)
    snapshot = await service.snapshot(body.as_of)
    answer, encoded = await service.pool.run(partial(_search, service, snapshot, body.question()))
    request.app.state.metrics.count_search(answer, request)
    return Response(encoded, media_type="application/json")


@router.post("/search/batch", response_model=BatchResponse)
async def search_batch(body: BatchRequest, request: Request) -> Response:
    """Up to 32 questions to the same version of the tables; an answer or a problem for each, in order.

    All questions together have the time limit of one search; those that exceed it have the problem `too-slow`.
    """
    service = state_of(request)
    current, ends_at = service.replica.snapshot, time.monotonic() + service.settings.search_seconds
    answers = [await _answer_one(service, request, current, question, ends_at) for question in body.searches]
    return Response(b'{"answers":[' + b",".join(answers) + b"]}", media_type="application/json")


async def _answer_one(service: AppState, request: Request, current: Snapshot, question: Any, ends_at: float) -> bytes:
    """The JSON of the answer to one question of a batch, or of its problem."""
    try:
        body = validate(SearchRequest, question)
        snapshot = current
        if body.as_of is not None:
            snapshot = await service.snapshot(body.as_of, seconds=_seconds_until(ends_at))
        answer, encoded = await service.pool.run(
            partial(_search, service, snapshot, body.question()), seconds=_seconds_until(ends_at)
        )
    except TooSlow:
        limit = service.settings.search_seconds
        late = TooSlow(limit, "all questions of a batch share them; ask this one again, among fewer")
        return orjson.dumps(errors.describe(request, late)[1])
    except (LakeError, Overloaded, RequestValidationError) as error:
        return orjson.dumps(errors.describe(request, error)[1])
    request.app.state.metrics.count_search(answer, request)
    return encoded


def _seconds_until(ends_at: float) -> float:
    """Raises TooSlow if there are none."""
    seconds = ends_at - time.monotonic()
    if seconds <= 0:
        raise TooSlow(0)
    return seconds


def _search(service: AppState, snapshot: Snapshot, question: Question) -> tuple[Answer, bytes]:
    """The answer and its JSON. `Answer` has the fields of `SearchResponse`; validating them would cost as much as the
    search.
    """
    answer = service.searcher.search(snapshot, question)
    return answer, orjson.dumps(answer, option=orjson.OPT_UTC_Z)

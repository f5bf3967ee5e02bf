"""`GET /metrics`: everything Prometheus is told, of this process and of the lake."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from akosha_api.dependencies import ServingDep, WatchedDep

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
async def metrics(serving: ServingDep, watched: WatchedDep) -> Response:
    """Prometheus text format."""
    text = await serving.pool.run(lambda: generate_latest(watched.registry))
    return Response(text, media_type=CONTENT_TYPE_LATEST)

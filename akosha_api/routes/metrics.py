"""`GET /metrics`: the metrics of this process and of the lake, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from akosha_api.dependencies import MetricsDep, StateDep

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
async def read_metrics(service: StateDep, metrics: MetricsDep) -> Response:
    """Prometheus text format."""
    text = await service.pool.run(lambda: generate_latest(metrics.registry))
    return Response(text, media_type=CONTENT_TYPE_LATEST)

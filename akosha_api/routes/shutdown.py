"""`POST /api/v1/shutdown`: starts the drain, as SIGTERM does."""

import logging
import os
import signal

from fastapi import APIRouter, BackgroundTasks, status
from pydantic import BaseModel

from akosha_api.dependencies import OperatorDep, ServingDep

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/api/v1", tags=["health"])


class ShutdownAnswer(BaseModel):
    """What ends, and how long it may take."""

    stops: str
    drain_seconds: int


@router.post("/shutdown", status_code=status.HTTP_202_ACCEPTED)
async def shutdown(serving: ServingDep, _operator: OperatorDep, after: BackgroundTasks) -> ShutdownAnswer:
    """Requests under way end, then the process does; under `akosha up`, everything it started, ingestion first."""
    parent = serving.settings.supervisor
    logger.warning("shutdown was asked for", extra={"supervised": bool(parent)})
    after.add_task(os.kill, parent or os.getpid(), signal.SIGTERM)
    seconds = serving.lake.settings.drain_seconds if parent else serving.settings.drain_seconds
    return ShutdownAnswer(stops="all services of `akosha up`" if parent else "this process", drain_seconds=seconds)

"""`POST /api/v1/shutdown`: starts the drain, as SIGTERM does."""

import logging
import os
import signal

from fastapi import APIRouter, BackgroundTasks, status
from pydantic import BaseModel

from akosha_api.dependencies import OperatorDep, StateDep

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/api/v1", tags=["health"])


class ShutdownAnswer(BaseModel):
    """What stops, and how many seconds it may take."""

    stops: str
    drain_seconds: int


@router.post("/shutdown", status_code=status.HTTP_202_ACCEPTED)
async def shutdown(service: StateDep, _operator: OperatorDep, background: BackgroundTasks) -> ShutdownAnswer:
    """Finishes requests under way and ends the process; under `akosha up` all its services, ingestion first."""
    parent = service.settings.supervisor
    logger.warning("shutdown was requested", extra={"supervised": bool(parent)})
    background.add_task(os.kill, parent or os.getpid(), signal.SIGTERM)
    seconds = service.lake.settings.drain_seconds if parent else service.settings.drain_seconds
    return ShutdownAnswer(stops="all services of `akosha up`" if parent else "this process", drain_seconds=seconds)

"""`/api/v1/ingestion/…` and `POST /api/v1/uploads/redrive`: the backlog, starting ingestion, retrying uploads."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, status
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from akosha_api.dependencies import OperatorDep, StateDep
from akosha_api.validation_errors import Name
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.inbox import notifications
from akosha_assets.lake.watch.trigger import Trigger, retry_now

router = APIRouter(prefix="/api/v1", tags=["ingestion"])

Level = Literal["ok", "warn", "error"]


class BacklogHistoryPoint(BaseModel):
    """The backlog at an earlier time."""

    at: datetime
    waiting: int
    arrived: Annotated[int, Field(description="Uploads that were found since the point before.")]
    drained: Annotated[int, Field(description="Uploads that were ingested or quarantined since the point before.")]


class BacklogAnswer(BaseModel):
    """The backlog and its rates, as metrics, asset checks and alerts show them."""

    measured_at: datetime
    waiting: int
    waiting_bytes: int
    oldest_waiting_at: datetime | None
    oldest_waiting_seconds: float
    claimed: int
    arriving: int
    incomplete: int
    ingested: int
    quarantined: int
    quarantined_by_reason: dict[str, int]
    largest_system_share: float
    arrivals_per_second: float
    drained_per_second: float
    catch_up_seconds: Annotated[float | None, Field(description="Null while the backlog does not shrink.")]
    live_batches: int
    expired_leases: int
    waiting_for_vectors: Annotated[int, Field(description="Served hot memories without a vector.")]
    caught_up: Annotated[bool, Field(description="No upload waits for longer than AKOSHA_BACKLOG_AGE_SECONDS.")]
    size: Annotated[Level, Field(description="The number of uploads against its limits.")]
    age: Annotated[Level, Field(description="The age of the oldest upload against its limits.")]
    history: list[BacklogHistoryPoint]


class TriggerAnswer(BaseModel):
    """Who ingests now."""

    by: Literal["dagster", "process"]
    run: Annotated[str, Field(description="Dagster run id, or process id.")]
    already_running: bool
    reason: str
    found: Annotated[int, Field(description="Uploads that this request found in the inbox and added to the ledger.")]
    waiting: int


class Redrive(BaseModel):
    """Quarantined uploads to retry: those that match every field."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Name | None = None
    reason: Name | None = None
    system_id: Name | None = None
    dry_run: Annotated[StrictBool, Field(description="Only list the matching uploads.")] = True


class RedriveAnswer(BaseModel):
    """The uploads that wait again, or would without `dry_run`."""

    dry_run: bool
    uploads: list[str]


@router.get("/ingestion/backlog")
async def read_backlog(
    service: StateDep, minutes: Annotated[int, Query(ge=1, le=1440, description="Minutes of history.")] = 60
) -> BacklogAnswer:
    """The backlog now and over the last minutes, from the ledger."""

    def read() -> dict[str, Any]:
        ledger, settings = service.ledger(), service.lake.settings
        measured = backlog.measure(ledger, now=datetime.now(UTC))
        span = timedelta(minutes=minutes)
        return asdict(measured) | {
            "oldest_waiting_seconds": measured.oldest_waiting_seconds,
            "waiting_for_vectors": service.replica.snapshot.tiers["hot"].rows_without_vector,
            "caught_up": backlog.is_caught_up(measured, settings),
            "size": backlog.judge_size(ledger, measured).level,
            "age": backlog.judge_age(settings, measured).level,
            "history": [
                vars(point) for point in backlog.history(ledger, now=measured.measured_at, span=span, step=span / 60)
            ],
        }

    return BacklogAnswer.model_validate(await service.pool.run(read))


@router.post("/ingestion/trigger", status_code=status.HTTP_202_ACCEPTED)
async def trigger(
    service: StateDep,
    request: Request,
    _operator: OperatorDep,
    retry: Annotated[
        bool, Query(alias="retry_now", description="Retry at once uploads that wait after a failure.")
    ] = False,
) -> TriggerAnswer:
    """Lists the inbox and starts ingestion: in a Dagster run, or in a process of this machine if Dagster is down."""
    starter: Trigger = request.app.state.trigger

    def start() -> dict[str, Any]:
        settings, ledger = service.lake.settings, service.ledger()
        swept = notifications.discover(settings, ledger, now=datetime.now(UTC))
        if retry:
            retry_now(ledger)
        started = starter.start(asked_by="api")
        return asdict(started) | {
            "found": swept.added,
            "waiting": backlog.measure(ledger, now=datetime.now(UTC)).waiting,
        }

    return TriggerAnswer.model_validate(await service.pool.run(start))


@router.post("/uploads/redrive")
async def redrive(body: Redrive, service: StateDep, _operator: OperatorDep) -> RedriveAnswer:
    """Retries quarantined uploads as if they were new. Only lists them unless `dry_run` is false."""
    if body.upload_id is None and body.reason is None and body.system_id is None:
        raise InvalidRequest("body", "names no upload; expected upload_id, reason or system_id")
    ids = await service.pool.run(
        lambda: service.ledger().redrive(
            upload_id=body.upload_id,
            reason=body.reason,
            system_id=body.system_id,
            dry_run=body.dry_run,
            now=datetime.now(UTC),
        )
    )
    return RedriveAnswer(dry_run=body.dry_run, uploads=ids)

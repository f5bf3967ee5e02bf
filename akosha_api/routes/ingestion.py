"""`/api/v1/ingestion/…`: how much waits, and starting to take it in. `POST /api/v1/uploads/redrive` gives quarantined
uploads another try.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, status
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from akosha_api.dependencies import OperatorDep, ServingDep
from akosha_api.validation_errors import Name
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.inbox import notifications
from akosha_assets.lake.watch.trigger import Trigger, retry_now

router = APIRouter(prefix="/api/v1", tags=["ingestion"])


class BacklogHistoryPoint(BaseModel):
    """The backlog at one time of the past."""

    at: datetime
    waiting: int
    arrived: Annotated[int, Field(description="Uploads found since the moment before.")]
    drained: Annotated[int, Field(description="Uploads taken in or quarantined since the moment before.")]


class BacklogAnswer(BaseModel):
    """How much waits, for how long, and how fast it goes; the numbers that metrics, checks and alerts use."""

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
    catch_up_seconds: Annotated[float | None, Field(description="Null while the backlog does not get shorter.")]
    live_batches: int
    expired_leases: int
    waiting_for_vectors: Annotated[int, Field(description="Served hot memories without a vector.")]
    caught_up: Annotated[bool, Field(description="Whether nothing waits for longer than AKOSHA_BACKLOG_AGE_SECONDS.")]
    size: Annotated[str, Field(description="What the limits on the count say: ok, warn or error.")]
    age: Annotated[str, Field(description="What the limits on the age say: ok, warn or error.")]
    history: list[BacklogHistoryPoint]


class TriggerAnswer(BaseModel):
    """Who takes uploads in now."""

    by: Annotated[str, Field(description="dagster or process.")]
    run: Annotated[str, Field(description="Run id of Dagster, or process id.")]
    already_running: bool
    reason: str
    found: Annotated[int, Field(description="Uploads that a look at the inbox just now added to the ledger.")]
    waiting: int


class Redrive(BaseModel):
    """Which quarantined uploads get another try; all that match every field given."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Name | None = None
    reason: Name | None = None
    system_id: Name | None = None
    dry_run: Annotated[StrictBool, Field(description="Only say which ones match.")] = True


class RedriveAnswer(BaseModel):
    """Which uploads wait again, or would."""

    dry_run: bool
    uploads: list[str]


@router.get("/ingestion/backlog")
async def read_backlog(
    serving: ServingDep, minutes: Annotated[int, Query(ge=1, le=1440, description="Minutes of history.")] = 60
) -> BacklogAnswer:
    """The backlog now and over the last minutes, from the ledger."""

    def read() -> dict[str, Any]:
        ledger, settings = serving.ledger(), serving.lake.settings
        measured = backlog.measure(ledger, now=datetime.now(UTC))
        span = timedelta(minutes=minutes)
        return asdict(measured) | {
            "oldest_waiting_seconds": measured.oldest_waiting_seconds,
            "waiting_for_vectors": serving.replica.snapshot.tiers["hot"].rows_without_vector,
            "caught_up": backlog.is_caught_up(measured, settings),
            "size": backlog.judge_size(ledger, measured).level,
            "age": backlog.judge_age(settings, measured).level,
            "history": [
                vars(moment) for moment in backlog.history(ledger, now=measured.measured_at, span=span, step=span / 60)
            ],
        }

    return BacklogAnswer.model_validate(await serving.pool.run(read))


@router.post("/ingestion/trigger", status_code=status.HTTP_202_ACCEPTED)
async def trigger(
    serving: ServingDep,
    request: Request,
    _operator: OperatorDep,
    retry: Annotated[
        bool, Query(alias="retry_now", description="Uploads that wait after a failure are tried at once.")
    ] = False,
) -> TriggerAnswer:
    """Look at the inbox and start ingestion now: by Dagster where it answers, else by a process of this machine."""
    starter: Trigger = request.app.state.trigger

    def start() -> dict[str, Any]:
        settings, ledger = serving.lake.settings, serving.ledger()
        swept = notifications.discover(settings, ledger, now=datetime.now(UTC))
        if retry:
            retry_now(ledger)
        started = starter.start(asked_by="api")
        return asdict(started) | {
            "found": swept.added,
            "waiting": backlog.measure(ledger, now=datetime.now(UTC)).waiting,
        }

    return TriggerAnswer.model_validate(await serving.pool.run(start))


@router.post("/uploads/redrive")
async def redrive(body: Redrive, serving: ServingDep, _operator: OperatorDep) -> RedriveAnswer:
    """Quarantined uploads wait again with a clean slate. Says only which ones unless `dry_run` is false."""
    if body.upload_id is None and body.reason is None and body.system_id is None:
        raise InvalidRequest("body", "names no upload; give upload_id, reason or system_id")
    ids = await serving.pool.run(
        lambda: serving.ledger().redrive(
            upload_id=body.upload_id,
            reason=body.reason,
            system_id=body.system_id,
            dry_run=body.dry_run,
            now=datetime.now(UTC),
        )
    )
    return RedriveAnswer(dry_run=body.dry_run, uploads=ids)

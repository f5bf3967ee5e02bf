"""`GET /api/v1/alerts`: what is wrong, what was, and whether people could be told."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from akosha_api.dependencies import ServingDep
from akosha_assets.lake.watch import alerts

router = APIRouter(prefix="/api/v1", tags=["alerts"])


class Alert(BaseModel):
    """One trouble."""

    key: str
    severity: Annotated[str, Field(description="warning or critical.")]
    state: Annotated[str, Field(description="firing or resolved.")]
    title: str
    detail: str
    runbook: Annotated[str, Field(description="Address of what to do.")]
    fired_at: datetime
    resolved_at: datetime | None
    pending: Annotated[bool, Field(description="Whether a message is still to be delivered.")]
    attempts: Annotated[int, Field(description="Failed attempts to deliver it.")]
    error: Annotated[str | None, Field(description="Why it could not be delivered.")]


class AlertList(BaseModel):
    """Alerts, the newest change first."""

    alerts: list[Alert]


@router.get("/alerts")
async def list_alerts(
    serving: ServingDep, state: Annotated[Literal["firing", "resolved"] | None, Query()] = None
) -> AlertList:
    """Alerts, the newest change first."""
    rows = await serving.pool.run(lambda: alerts.listed(serving.ledger(), state=state))
    base = serving.lake.settings.runbook_url.rstrip("/")
    return AlertList(
        alerts=[Alert.model_validate({**row._mapping, "runbook": f"{base}/{row.runbook}.md"}) for row in rows]
    )

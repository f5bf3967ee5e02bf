"""`GET /api/v1/alerts`: alerts that fire, alerts that resolved, and whether their messages were delivered."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from akosha_api.dependencies import ServingDep
from akosha_assets.lake.watch import alerts
from akosha_assets.lake.watch.alert_kinds import AlertState, Severity

router = APIRouter(prefix="/api/v1", tags=["alerts"])


class Alert(BaseModel):
    """One alert."""

    key: str
    severity: Severity
    state: AlertState
    title: str
    detail: str
    runbook: Annotated[str, Field(description="Address of the page that says what to do.")]
    fired_at: datetime
    resolved_at: datetime | None
    is_notified: Annotated[bool, Field(description="Whether at least one channel accepted the present message.")]
    pending: Annotated[bool, Field(description="Whether a message is still to be delivered.")]
    attempts: Annotated[int, Field(description="Failed attempts to deliver it.")]
    error: Annotated[str | None, Field(description="Why it could not be delivered.")]


class AlertList(BaseModel):
    """Alerts, the newest change first."""

    alerts: list[Alert]


@router.get("/alerts")
async def list_alerts(serving: ServingDep, state: Annotated[AlertState | None, Query()] = None) -> AlertList:
    """Alerts, the newest change first."""
    listed = await serving.pool.run(lambda: alerts.list_alerts(serving.ledger(), state=state))
    base = serving.lake.settings.runbook_url.rstrip("/")
    return AlertList(
        alerts=[
            Alert.model_validate(vars(one) | {"runbook": f"{base}/{one.runbook}.md", "is_notified": one.is_notified})
            for one in listed
        ]
    )

"""`GET /api/v1/alerts`: firing and resolved alerts, and whether their notifications were delivered."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from akosha_api.dependencies import StateDep
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
    runbook: Annotated[str, Field(description="URL of the runbook.")]
    fired_at: datetime
    resolved_at: datetime | None
    is_notified: Annotated[bool, Field(description="Whether at least one channel accepted the current message.")]
    pending: Annotated[bool, Field(description="Whether a message is still to be delivered.")]
    attempts: Annotated[int, Field(description="Failed attempts to deliver it.")]
    error: Annotated[str | None, Field(description="Why the last attempt failed.")]


class AlertList(BaseModel):
    """Alerts, the last changed first."""

    alerts: list[Alert]


@router.get("/alerts")
async def list_alerts(service: StateDep, state: Annotated[AlertState | None, Query()] = None) -> AlertList:
    """Alerts, the last changed first."""
    listed = await service.pool.run(lambda: alerts.list_alerts(service.ledger(), state=state))
    base = service.lake.settings.runbook_url.rstrip("/")
    return AlertList(
        alerts=[
            Alert.model_validate(vars(one) | {"runbook": f"{base}/{one.runbook}.md", "is_notified": one.is_notified})
            for one in listed
        ]
    )

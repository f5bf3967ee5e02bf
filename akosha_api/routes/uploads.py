"""`GET /api/v1/uploads` and `/{upload}`: the ledger's receipts."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from akosha_api import cursors
from akosha_api.app_state import AppState
from akosha_api.dependencies import ServingDep
from akosha_api.models import UploadList, UploadModel
from akosha_api.validation_errors import Name
from akosha_assets.lake.errors import InvalidRequest

router = APIRouter(prefix="/api/v1", tags=["uploads"])


@router.get("/uploads")
async def list_uploads(
    serving: ServingDep,
    state: Annotated[
        Name | None, Query(description="arriving, waiting, claimed, ingested, quarantined or incomplete.")
    ] = None,
    system_id: Annotated[Name | None, Query()] = None,
    reason: Annotated[Name | None, Query(description="Reason code of a quarantine.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`cursor` of the page before.")] = None,
) -> UploadList:
    """Uploads, newest first."""
    after = cursors.decoded(cursor)
    if after is not None and not (after.isdecimal() and len(after) < 19):
        raise InvalidRequest("cursor", "is the cursor of another list; expected that of a page of uploads")
    page = await serving.pool.run(
        lambda: serving.ledger().uploads(
            state=state, system_id=system_id, reason=reason, limit=limit, cursor=None if after is None else int(after)
        )
    )
    return UploadList(uploads=[_receipt(serving, row) for row in page.uploads], cursor=cursors.encoded(page.cursor))


@router.get("/uploads/{upload_id}")
async def read_upload(
    upload_id: Name,
    serving: ServingDep,
    system_id: Annotated[
        Name | None, Query(description="Whose upload; needed where several systems have one of that id.")
    ] = None,
) -> UploadModel:
    """The receipt of one upload: seen, claimed, ingested, searchable, with times and counts. 409 where several systems
    have one.
    """
    return _receipt(serving, await serving.pool.run(lambda: serving.ledger().receipt(upload_id, system_id=system_id)))


def _receipt(serving: AppState, row: Any) -> UploadModel:
    receipt = UploadModel.model_validate(row, from_attributes=True)
    if receipt.searchable_at is None and receipt.hot_version is not None and receipt.ingested_at is not None:
        # Served, and about to be recorded with this time.
        served_at = serving.replica.reached_at(receipt.hot_version)
        receipt.searchable_at = None if served_at is None else max(served_at, receipt.ingested_at)
    return receipt

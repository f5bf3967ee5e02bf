"""`GET /api/v1/uploads` and `/{upload_id}`: receipts of uploads from the ledger."""

from typing import Annotated

from fastapi import APIRouter, Query

from akosha_api import cursors
from akosha_api.app_state import AppState
from akosha_api.dependencies import StateDep
from akosha_api.read_models import UploadList, UploadModel
from akosha_api.validation_errors import Name
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.states import UploadFilter
from akosha_assets.lake.reasons import REASONS

router = APIRouter(prefix="/api/v1", tags=["uploads"])

CURSOR_MAX_DIGITS = 18


@router.get("/uploads")
async def list_uploads(
    service: StateDep,
    state: Annotated[Name | None, Query(json_schema_extra={"enum": list(UploadFilter)})] = None,
    system_id: Annotated[Name | None, Query()] = None,
    reason: Annotated[
        Name | None,
        Query(description="Code of the reason of a quarantine.", json_schema_extra={"enum": list(REASONS)}),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`cursor` of the page before.")] = None,
) -> UploadList:
    """Uploads, newest first."""
    after = cursors.decode(cursor)
    if after is not None and not (after.isdecimal() and len(after) <= CURSOR_MAX_DIGITS):
        raise InvalidRequest("cursor", "is the cursor of another list; expected that of a page of uploads")
    page = await service.pool.run(
        lambda: service.ledger().uploads(
            state=state, system_id=system_id, reason=reason, limit=limit, cursor=None if after is None else int(after)
        )
    )
    return UploadList(uploads=[_receipt(service, row) for row in page.uploads], cursor=cursors.encode(page.cursor))


@router.get("/uploads/{upload_id}")
async def read_upload(
    upload_id: Name,
    service: StateDep,
    system_id: Annotated[
        Name | None, Query(description="The system of the upload; required if several systems have one of that id.")
    ] = None,
) -> UploadModel:
    """The receipt of one upload: seen, claimed, ingested, searchable, with times and counts. 409 if several systems
    have one of that id.
    """
    row = await service.pool.run(lambda: service.ledger().receipt(upload_id, system_id=system_id))
    return _receipt(service, row)


def _receipt(service: AppState, row: UploadRow) -> UploadModel:
    receipt = UploadModel.model_validate(row, from_attributes=True)
    if receipt.searchable_at is None and receipt.hot_version is not None and receipt.ingested_at is not None:
        # `SearchableLoop` is about to record this time.
        served_at = service.replica.reached_at(receipt.hot_version)
        receipt.searchable_at = None if served_at is None else max(served_at, receipt.ingested_at)
    return receipt

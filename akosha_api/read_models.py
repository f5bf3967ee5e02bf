"""Response bodies of reads: one memory, systems, receipts of uploads."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from akosha_api.models import Memory, TierState
from akosha_assets.lake.ingestion.ledger.states import UploadState


class FullMemory(Memory):
    """One stored memory with every column of its table."""

    attributes: Annotated[
        dict[str, Any] | None,
        Field(description="Minor columns of the source; `_json` has them as text if they nest too deeply."),
    ] = None
    provenance: Annotated[dict[str, Any], Field(description="The upload, object and snapshot of its current version.")]
    has_vector: bool
    space: str | None
    aliases: Annotated[
        list[str], Field(description="Ids that its source gave it later, the newest last; each finds it.")
    ]


class System(BaseModel):
    """One Session-Buddy instance with memories in the lake."""

    system_id: str
    memories: int
    first_occurred_at: datetime
    last_occurred_at: datetime
    last_arrived_at: datetime


class SystemList(BaseModel):
    """Systems by ascending id, and the tiers that were counted."""

    systems: list[System]
    tiers: Annotated[
        dict[str, TierState],
        Field(description="Systems and memories of a tier that is not answered or empty may be missing."),
    ]
    cursor: str | None


class UploadModel(BaseModel):
    """The receipt of one upload."""

    upload_id: str
    system_id: str
    state: UploadState
    bytes: int
    snapshot_at: datetime
    seen_at: datetime
    claimed_at: datetime | None
    ingested_at: datetime | None
    searchable_at: Annotated[
        datetime | None, Field(description="When a service first served its memories; null before.")
    ]
    attempts: int
    reason: Annotated[str | None, Field(description="Code of the reason why it is in quarantine.")]
    message: str | None
    sample: Annotated[
        str | None, Field(description="The beginning of the value that was refused, with secrets masked.")
    ]
    rows_read: int | None
    new_rows: int | None
    changed_rows: int | None
    unchanged_rows: int | None
    absent_rows: int | None
    counts: Annotated[dict[str, Any] | None, Field(description="Rows by kind, and what was skipped.")]
    hot_version: int | None


class UploadList(BaseModel):
    """Uploads, newest first."""

    uploads: list[UploadModel]
    cursor: str | None

"""Settings: how the inbox is listed, and what one upload may cost."""

from typing import Annotated

from pydantic import Field

from akosha_assets.lake.checked_settings import MIB, CheckedSettings


class UploadSettings(CheckedSettings):
    """Bounds on the inbox, on one upload and on its extraction worker."""

    sweep_seconds: Annotated[
        int,
        Field(
            ge=1,
            description="Seconds between two listings of the whole inbox while AKOSHA_INGESTION_QUEUE reports uploads.",
        ),
    ] = 300
    inbox_keep_days: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Days an ingested upload stays in the inbox, where it can be replayed, before upkeep may remove it."
            ),
        ),
    ] = 7

    upload_max_bytes: Annotated[
        int, Field(ge=1, description="Maximum compressed bytes of all files of one upload.")
    ] = 256 * MIB
    upload_max_raw_bytes: Annotated[
        int, Field(ge=1, description="Maximum bytes of all files of one upload after decompression.")
    ] = 2048 * MIB
    upload_max_rows: Annotated[int, Field(ge=1, description="Maximum rows of all tables read from one upload.")] = (
        2_000_000
    )
    upload_max_event_days: Annotated[
        int,
        Field(
            ge=1,
            description=(
                "Maximum event days of the new rows of one upload, and of one batch; each day costs "
                "a file, and 1 MB of memory while it is written."
            ),
        ),
    ] = 730
    # At most `row_rules.TEXT_MAX_BYTES`, which bounds every text of a table.
    upload_max_field_bytes: Annotated[
        int, Field(ge=1024, le=64 * MIB, description="Maximum bytes of one text field.")
    ] = 8 * MIB
    upload_max_columns: Annotated[int, Field(ge=64, description="Maximum columns of one uploaded table.")] = 512
    upload_seconds: Annotated[
        int, Field(ge=1, description="Maximum seconds that one upload takes in its extraction worker.")
    ] = 60
    worker_memory_bytes: Annotated[
        int, Field(ge=256 * MIB, description="Maximum address space that one upload adds to its extraction worker.")
    ] = 3072 * MIB
    workers: Annotated[int, Field(ge=1, le=64, description="Extraction worker processes of one ingest run.")] = 2

"""Settings: how a batch of uploads is bounded, claimed and retried."""

from typing import Annotated

from pydantic import Field

from akosha_assets.lake.checked_settings import MIB, CheckedSettings


class IngestionSettings(CheckedSettings):
    """The size of a batch, its lease, and what happens to uploads that fail."""

    batch_uploads: Annotated[
        int, Field(ge=1, le=10_000, description="Maximum number of uploads that one ingest batch claims.")
    ] = 512
    batch_bytes: Annotated[
        int,
        Field(
            ge=MIB,
            description=(
                "Maximum compressed bytes that one ingest batch claims; a single larger upload is a batch of its own."
            ),
        ),
    ] = 256 * MIB
    batch_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="Seconds after which an ingest batch extracts no further upload and releases the rest.",
        ),
    ] = 60
    batch_system_uploads: Annotated[
        int, Field(ge=1, description="Maximum uploads of one system in a batch while other systems wait.")
    ] = 8
    ingest_runs: Annotated[
        int,
        Field(
            ge=1,
            le=32,
            description=(
                "Parallel ingest runs while the backlog exceeds one batch; each run has AKOSHA_WORKERS processes."
            ),
        ),
    ] = 1
    lease_seconds: Annotated[
        int,
        Field(ge=5, description="Seconds until an unrenewed claim expires and another run takes the batch over."),
    ] = 120
    max_attempts: Annotated[
        int, Field(ge=1, le=100, description="Failures of one upload before it is quarantined.")
    ] = 3
    incomplete_grace_seconds: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Seconds an upload may wait for its manifest before it is shown as incomplete, and for a file of its "
                "manifest before it is quarantined."
            ),
        ),
    ] = 900
    drain_seconds: Annotated[
        int, Field(ge=1, description="Seconds that uploads in flight have to finish after SIGTERM.")
    ] = 30
    tick_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=20,
            description="Seconds one discovery sweep may list before it pauses; the next one resumes there.",
        ),
    ] = 8.0

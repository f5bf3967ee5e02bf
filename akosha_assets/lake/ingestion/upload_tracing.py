"""A log line and spans for each upload of a batch, from its discovery to its ingestion."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from akosha_assets.lake import telemetry
from akosha_assets.lake.ingestion.ledger.claims import Batch
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState

logger = logging.getLogger(__name__)


def record_batch(
    batch: Batch,
    outcomes: Mapping[int, UploadOutcome],
    *,
    began_at: datetime,
    ended_at: datetime,
    seconds: Mapping[str, float],
) -> None:
    """Logs and traces every upload of the batch that has an outcome. `seconds`: by step, in order."""
    for upload in batch.uploads:
        outcome = outcomes.get(upload.id)
        if outcome is None:
            continue
        with telemetry.log_context(upload_id=upload.upload_id):
            counts = {
                name: outcome.counts.get(name) for name in ("rows_read", "new_rows", "changed_rows", "hot_version")
            }
            if outcome.state == UploadState.INGESTED:
                logger.info("upload ingested", extra=counts)
            else:
                extra = {"reason": outcome.reason, "cause": outcome.message}
                logger.warning("upload %s: %s", outcome.state, f"{upload.system_id}/{upload.upload_id}", extra=extra)
        attributes = {
            "akosha.upload_id": upload.upload_id,
            "akosha.system_id": upload.system_id,
            "akosha.batch_id": batch.id,
        }
        result = (
            attributes
            | {f"akosha.{name}": value for name, value in counts.items()}
            | {"akosha.state": outcome.state, "akosha.reason": outcome.reason}
        )
        trace_id = telemetry.upload_trace_id(upload.system_id, upload.upload_id)
        span = telemetry.record_span("upload", upload.seen_at, ended_at, result, trace_id=trace_id)
        if span is not None:
            telemetry.record_span("wait", upload.seen_at, began_at, attributes, parent=span)
            ingest_span = telemetry.record_span("take in", began_at, ended_at, attributes, parent=span)
            _trace_steps(batch, began_at, seconds, ingest_span)


def _trace_steps(batch: Batch, began_at: datetime, seconds: Mapping[str, float], parent: Any) -> None:
    at = began_at
    for name, length in seconds.items():
        telemetry.record_span(name, at, at + timedelta(seconds=length), {"akosha.batch_id": batch.id}, parent=parent)
        at += timedelta(seconds=length)

"""Results of a batch, by upload and by system. `claims.finish` writes them to the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from akosha_assets.lake.ingestion.ledger import plausible
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings

SHORTEST_LOOK = timedelta(seconds=5)
# Columns of a receipt that the first ingestion of an upload fills.
RECEIPT_COUNTS = ("hot_version", "rows_read", "new_rows", "changed_rows", "unchanged_rows", "absent_rows")


@dataclass(frozen=True)
class UploadOutcome:
    """The result of one upload: `state` is ingested, quarantined, waiting (to be tried again) or arriving (files are
    missing that may still come).

    Waiting counts as an attempt unless `is_outage`: a store failed before anything of the upload was read.
    """

    state: UploadState
    is_outage: bool = field(default=False, kw_only=True)
    counts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    message: str | None = None
    sample: str | None = None


@dataclass(frozen=True)
class SystemState:
    """A system after a batch: its known rows (encoded, see `known_rows.py`), and digests of its files by name."""

    known: bytes
    known_rows: int
    digests: dict[str, Any]
    last_snapshot_at: datetime


def pause_after(attempts: int) -> timedelta:
    """Returns how long an upload waits after `attempts` attempts: 5 s, 20 s, 80 s, then 5 min."""
    return timedelta(seconds=min(5 * 4 ** min(max(attempts - 1, 0), 4), 300))


def may_be_arriving(upload: UploadRow, settings: LakeSettings, *, now: datetime) -> bool:
    """Whether files that `upload` lacks may still come: it is new, and was never ingested."""
    grace = timedelta(seconds=settings.incomplete_grace_seconds)
    return upload.ingested_at is None and plausible.is_within(upload.seen_at, now, grace)


def _look_again_at(upload: UploadRow, settings: LakeSettings, now: datetime) -> datetime:
    """The time of the next attempt for missing files: after as long as it has waited, at most at the end of the grace
    period. A listing that shows other objects comes first.
    """
    pause = min(max(now - upload.seen_at, SHORTEST_LOOK), plausible.LONGEST_PAUSE)
    return max(now, min(now + pause, upload.seen_at + timedelta(seconds=settings.incomplete_grace_seconds)))


def upload_values(
    upload: UploadRow, outcome: UploadOutcome, settings: LakeSettings, *, now: datetime
) -> dict[str, Any]:
    """Returns the columns of the row of `upload` after `outcome`, with its id as `ref`.

    An upload whose last attempt failed is quarantined.
    """
    attempts = upload.attempts + (outcome.state == UploadState.WAITING and not outcome.is_outage)
    state, reason, message = outcome.state, outcome.reason, outcome.message
    not_before, requeued_at = None, upload.requeued_at
    if state == UploadState.ARRIVING:
        # It does not wait for us until then.
        not_before = requeued_at = _look_again_at(upload, settings, now)
    if state == UploadState.WAITING:
        not_before = now + pause_after(attempts)
        if attempts >= settings.max_attempts and not outcome.is_outage:
            state, reason, not_before = UploadState.QUARANTINED, "attempts_exhausted", None
            message = f"{upload.prefix} failed {attempts} times, last: {outcome.message}"
    counts = dict(outcome.counts)
    first = {
        "ingested_at": now if state == UploadState.INGESTED else None,
        **{name: counts.pop(name, None) for name in RECEIPT_COUNTS},
        "counts": counts or None,
    }
    if upload.ingested_at is not None:
        # A replay: the receipt keeps the counts of the first ingestion.
        first = {name: getattr(upload, name) for name in first}
    return {
        "ref": upload.id,
        "state": state,
        "reason": reason,
        "message": message,
        "sample": outcome.sample,
        "attempts": attempts,
        "not_before": not_before,
        "requeued_at": requeued_at,
        **first,
    }

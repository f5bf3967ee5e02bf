"""What the ledger says of sweeps: when the current one began, how the last one went, and since when all is listed.

"Caught up" may be said only by a sweep that reached the end of the inbox, so every sweep leaves a record of its outcome,
a failed one included.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger

# Keys of `Ledger.remembered`: the beginning of the sweep that paused, and the record of the newest one.
SWEEP_BEGAN = "sweep_began_at"
SWEEP_RECORD = "sweep_record"


class SweepOutcome(StrEnum):
    """How far a sweep came. A record stays `running` when its process was killed."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True)
class SweepRecord:
    """The newest sweep: it began at `began_at` (its first stretch) and was last heard of at `recorded_at`.

    `reason` says why it failed, and is empty otherwise.
    """

    began_at: datetime
    recorded_at: datetime
    outcome: SweepOutcome
    reason: str = ""


def read_record(ledger: Ledger) -> SweepRecord | None:
    """The record of the newest sweep; None before the first."""
    text = ledger.remembered(SWEEP_RECORD)
    if not text:
        return None
    fields = json.loads(text)
    return SweepRecord(
        datetime.fromisoformat(fields["began_at"]),
        datetime.fromisoformat(fields["recorded_at"]),
        SweepOutcome(fields["outcome"]),
        fields["reason"],
    )


def write_record(ledger: Ledger, record: SweepRecord) -> None:
    """`read_record` returns `record`."""
    fields = asdict(record) | {"began_at": record.began_at.isoformat(), "recorded_at": record.recorded_at.isoformat()}
    ledger.remember(SWEEP_RECORD, json.dumps(fields))


def record_end(ledger: Ledger, began_at: datetime, now: datetime) -> None:
    """The inbox counts as listed as of `began_at`, or of a later time that another sweep recorded before `now`."""

    def later(recorded: str | None) -> str:
        known = datetime.fromisoformat(recorded) if recorded else None
        # A clock that jumped ahead may have recorded a time that is still to come.
        return (max(known, began_at) if known is not None and known <= now else began_at).isoformat()

    ledger.update(SWEEP_ENDED, later)

"""Records of sweeps in the ledger: when a sweep began, how it ended, and as of when the inbox is listed completely.

Only a sweep that reached the end of the inbox proves that ingestion has caught up. So every sweep records its outcome,
also if it fails.
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
    """The state of a sweep. It stays `running` if the process is killed."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True)
class SweepRecord:
    """The newest sweep. `began_at` is the start of its first tick, `recorded_at` the start of its last one. `reason`
    says why it failed and is empty otherwise.
    """

    began_at: datetime
    recorded_at: datetime
    outcome: SweepOutcome
    reason: str = ""


def read_record(ledger: Ledger) -> SweepRecord | None:
    """Returns the record of the newest sweep; None before the first."""
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
    """Replaces the record of the newest sweep."""
    fields = asdict(record) | {"began_at": record.began_at.isoformat(), "recorded_at": record.recorded_at.isoformat()}
    ledger.remember(SWEEP_RECORD, json.dumps(fields))


def record_end(ledger: Ledger, began_at: datetime, now: datetime) -> None:
    """Records that the inbox is listed as of `began_at`, unless another sweep recorded a later time before `now`."""

    def later(recorded: str | None) -> str:
        known = datetime.fromisoformat(recorded) if recorded else None
        # A clock that was ahead may have recorded a time in the future.
        return (max(known, began_at) if known is not None and known <= now else began_at).isoformat()

    ledger.update(SWEEP_ENDED, later)

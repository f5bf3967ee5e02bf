"""The first step of a batch: fetches and extracts its uploads, until a limit of the batch is reached.

An upload that was not read, or whose rows no longer fit in the batch, has no outcome and waits for another batch.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from akosha_assets.lake.errors import StoreUnavailable, TransientError, UploadRejected
from akosha_assets.lake.ingestion.extraction.pool import Extraction, ExtractionJob, ExtractionPool
from akosha_assets.lake.ingestion.inbox.fetching import Fetched, fetch_all
from akosha_assets.lake.ingestion.ledger.claims import Batch
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome, may_be_arriving
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.ingestion.merge.system_state import SystemStates
from akosha_assets.lake.reasons import Reason
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings

# Arrow bytes of rows after which a batch extracts no more uploads. Limits the memory of a run, which has two batches.
BATCH_ARROW_BYTES = 64 * 1024 * 1024
# Estimated Arrow bytes of an upload's rows per compressed byte; vectors and fingerprints make them large.
ARROW_TO_COMPRESSED = 3
# Consecutive uploads that cannot be fetched before a batch stops fetching.
UNREAD_IN_A_ROW = 16
# Reasons that a file has while it is being written in place.
HALF_WRITTEN = (Reason.GZIP_DAMAGED, Reason.DATABASE_UNREADABLE)


@dataclass(kw_only=True)
class ReadBatch:
    """A batch after reading. `fetched`, `extractions` and `outcomes` are by the upload's id in the ledger.

    An upload has an extraction or an outcome, or neither if it waits for another batch.
    """

    batch: Batch
    systems: SystemStates
    began_at: datetime
    fetched: dict[int, Fetched] = field(default_factory=dict)
    extractions: dict[int, Extraction] = field(default_factory=dict)
    outcomes: dict[int, UploadOutcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    # Uploads that could not be fetched, each with its failure.
    unread: list[tuple[Fetched, StoreUnavailable]] = field(default_factory=list)
    # Whether the last fetch succeeded.
    is_inbox_up: bool = True


@dataclass(frozen=True)
class ReadingEnvironment:
    """Shared by all batches of a run: settings, workers, a folder for fetched files, and when to stop."""

    settings: LakeSettings
    pool: ExtractionPool
    spool: Path
    stop: Callable[[], bool]
    on_step: Callable[[str], None]


class BatchReader:
    """Reads one batch."""

    def __init__(self, environment: ReadingEnvironment, read: ReadBatch):
        self._environment, self._read = environment, read
        self._settings = environment.settings
        # Arrow bytes of the extractions, and an estimate of those that workers have not returned yet.
        self._extracted_bytes = self._expected_bytes = 0
        # Event days of the memories to store. Each day becomes a file, and all files are written at the same time.
        self._days: set[date] = set()
        self._deadline = time.monotonic() + self._settings.batch_seconds

    def run(self) -> None:
        """Reads the uploads in order until `stop()` is true or a limit of the batch is reached."""
        fetched = self._read.fetched
        for job, result in self._environment.pool.extract(self._jobs()):
            fetched[job.ref].discard()
            self._expected_bytes -= ARROW_TO_COMPRESSED * fetched[job.ref].upload.bytes
            if isinstance(result, Extraction):
                self._add(job.ref, result)
            else:
                self._read.outcomes[job.ref] = self._failed(fetched[job.ref], result)

    def _jobs(self) -> Iterator[ExtractionJob]:
        environment, read = self._environment, self._read
        for one in fetch_all(self._settings, read.batch.uploads, read.systems.digests_of, environment.spool):
            environment.on_step("fetched")
            if self._is_full() or environment.stop() or time.monotonic() > self._deadline:
                one.discard()
                return
            read.fetched[one.upload.id] = one
            if isinstance(one.failure, StoreUnavailable):
                self._add_unread(one, one.failure)
                if _are_last_unread(read):
                    return
                continue
            self._charge_unread()
            if (outcome := self._outcome_without_reading(one)) is not None:
                read.outcomes[one.upload.id] = outcome
                continue
            self._expected_bytes += ARROW_TO_COMPRESSED * one.upload.bytes
            yield ExtractionJob(
                ref=one.upload.id,
                system_id=one.upload.system_id,
                snapshot_at=one.upload.snapshot_at,
                arrived_at=one.upload.seen_at,
                files=one.files,
                known=read.systems.rows[one.upload.system_id],
                latest_at=one.latest_at,
            )

    def _outcome_without_reading(self, one: Fetched) -> UploadOutcome | None:
        if one.failure is not None:
            return self._failed(one, one.failure)
        if one.files:
            return None
        # Every file is identical to that of the system's last snapshot.
        return UploadOutcome(UploadState.INGESTED, {"rows_read": 0, "skipped_files": one.skipped, "hot_version": None})

    def _failed(self, one: Fetched, error: UploadRejected | TransientError) -> UploadOutcome:
        """The outcome of an upload that failed with `error`; arriving where the rest of it may still come."""
        outcome = rejected(error)
        is_partial = outcome.reason == Reason.FILE_MISSING or (outcome.reason in HALF_WRITTEN and one.has_grown)
        if is_partial and may_be_arriving(one.upload, self._settings, now=datetime.now(UTC)):
            outcome = replace(outcome, state=UploadState.ARRIVING)
        return outcome

    def _is_full(self) -> bool:
        total_bytes = self._extracted_bytes + self._expected_bytes
        return total_bytes > BATCH_ARROW_BYTES or len(self._days) >= self._settings.upload_max_event_days

    def _add_unread(self, one: Fetched, failure: StoreUnavailable) -> None:
        self._read.unread.append((one, failure))
        self._read.outcomes[one.upload.id] = UploadOutcome(UploadState.WAITING, message=str(failure), is_outage=True)
        self._read.is_inbox_up = False

    def _charge_unread(self) -> None:
        """Counts an attempt of the unread uploads: the inbox returned a later one, so it is not down."""
        if not self._read.is_inbox_up:
            self._read.is_inbox_up = True
            self._read.outcomes |= {one.upload.id: rejected(failure) for one, failure in self._read.unread}

    def _add(self, ref: int, extraction: Extraction) -> None:
        max_days, days = self._settings.upload_max_event_days, _event_days(extraction)
        if len(days) > max_days:
            self._read.outcomes[ref] = rejected(_too_many_days(days, max_days))
            return
        is_too_large = self._extracted_bytes + extraction.bytes_in_memory > 2 * BATCH_ARROW_BYTES
        if self._read.extractions and (is_too_large or len(self._days | days) > max_days):
            # The upload waits for another batch.
            return
        self._days |= days
        self._read.extractions[ref] = extraction
        self._extracted_bytes += extraction.bytes_in_memory + extraction.bytes_in_files


def rejected(error: UploadRejected | TransientError) -> UploadOutcome:
    """Returns the outcome of an upload that failed with `error`: quarantined, or waiting with one attempt fewer."""
    if isinstance(error, TransientError):
        return UploadOutcome(UploadState.WAITING, message=str(error))
    return UploadOutcome(UploadState.QUARANTINED, reason=error.reason, message=error.message, sample=error.sample)


def _are_last_unread(read: ReadBatch) -> bool:
    """Whether none of the last UNREAD_IN_A_ROW uploads could be fetched."""
    last = list(read.fetched.values())[-UNREAD_IN_A_ROW:]
    return len(last) == UNREAD_IN_A_ROW and all(isinstance(one.failure, StoreUnavailable) for one in last)


def _event_days(extraction: Extraction) -> set[date]:
    """Returns the event days of the memories to store."""
    if (spooled := extraction.spooled.get(HOT.address)) is not None:
        return set(pa.array(np.unique(spooled.days)).view(pa.date32()).to_pylist())
    rows = extraction.rows.get(HOT.address)
    return set() if rows is None else set(rows["event_day"].unique().to_pylist())


def _too_many_days(days: set[date], max_days: int) -> UploadRejected:
    return UploadRejected(
        "too_many_event_days",
        f"the rows to store fall on {len(days):,} days from {min(days)} to {max(days)}; expected at most {max_days:,} "
        "(AKOSHA_UPLOAD_MAX_EVENT_DAYS): raise it and redrive the upload if its times are right",
    )

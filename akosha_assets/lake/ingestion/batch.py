"""One batch in two steps: read it (fetch, extract), then store it (compare, commit to Delta, tell the ledger).

The order makes a crash harmless: the ledger notes that a batch begins to commit, the tables get its rows under its
fence, the ledger notes the end. Dying in between makes the systems of the batch be compared with the tables again.
Which rows a batch stores is decided in `reconcile.py`; turning them into tables is in `table_rows.py`; which batch is
next and what happens when one fails in `arrivals.py`.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable, StoreUnavailable, TransientError, UploadRejected
from akosha_assets.lake.ingestion import upload_tracing
from akosha_assets.lake.ingestion.extraction.pool import Extraction, ExtractionJob, ExtractionPool
from akosha_assets.lake.ingestion.inbox.fetching import Fetched, fetch_all
from akosha_assets.lake.ingestion.ledger import claims, known_tables
from akosha_assets.lake.ingestion.ledger.claims import Batch
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.rows import UploadState
from akosha_assets.lake.ingestion.merge import reconcile, table_rows
from akosha_assets.lake.ingestion.merge.system_state import SystemStates
from akosha_assets.lake.schemas import HOT, WRITTEN_BY_INGESTION
from akosha_assets.lake.tables import Fence

logger = logging.getLogger(__name__)

# Arrow bytes of rows after which a batch extracts no further upload: bounds the memory of a run, which holds two.
BATCH_ARROW_BYTES = 64 * 1024 * 1024
# What an upload's rows take in Arrow against its compressed bytes, where vectors and fingerprints make them large.
ARROW_TO_COMPRESSED = 3
# Uploads in a row that the inbox does not hand out before a batch stops asking.
UNREAD_IN_A_ROW = 16


@dataclass
class BatchResult:
    """What one batch stored: rows by table, versions of the tables, hot rows by event day, uploads by what became of
    them.
    """

    batch_id: int
    uploads: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    event_days: dict[date, int] = field(default_factory=dict)
    arrival_days: dict[date, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class ReadBatch:
    """A batch whose uploads are read; those that need no reading any more have their outcome already."""

    batch: Batch
    systems: SystemStates
    began_at: datetime
    fetched: dict[int, Fetched] = field(default_factory=dict)
    extractions: dict[int, Extraction] = field(default_factory=dict)
    outcomes: dict[int, UploadOutcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    # Uploads that the inbox did not hand out; `is_inbox_up` tells whether it handed out one after the last of them.
    unread: list[Fetched] = field(default_factory=list)
    is_inbox_up: bool = True


class BatchIngest:
    """One run's way of taking a batch in. Only one batch is read at a time; another one may be stored meanwhile."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        pool: ExtractionPool,
        spool: Path,
        stop: Callable[[], bool],
        on_step: Callable[[str], None],
    ):
        self.lake, self.ledger, self.pool, self.spool = lake, ledger, pool, spool
        self.stop, self.on_step = stop, on_step
        self.settings = ledger.settings
        self._embedder: Embedder | None = None
        self._embedder_asked = False

    def read(self, batch: Batch) -> ReadBatch:
        """What the uploads of the batch hold, until `stop()` or one of the bounds of a batch is reached."""
        clock, began_at = _Clock(), now()
        systems = SystemStates.load(
            self.lake, self.ledger, sorted({one.system_id for one in batch.uploads}), now=began_at
        )
        clock.lap("known")
        read = ReadBatch(batch, systems, began_at)
        self._extract(read)
        clock.lap("extract")
        read.seconds = clock.laps
        return read

    def store(self, read: ReadBatch) -> BatchResult:
        """The batch is in the tables and the ledger."""
        clock, batch = _Clock(), read.batch
        fetched, extractions, outcomes = read.fetched, read.extractions, read.outcomes
        difference = reconcile.compare(
            table_rows.snapshots(extractions, fetched),
            table_rows.seen(extractions),
            read.systems.rows_of({fetched[ref].upload.system_id for ref in extractions}),
            spill=self.spool,
        )
        provenance = table_rows.Provenance(batch.id, fetched, self.settings.uploaded_vector_space)
        parts = table_rows.parts(extractions, difference, provenance)
        clock.lap("compare")
        self.on_step("before_commit")
        claims.begin_commit(self.ledger, batch, now=now())
        result = BatchResult(batch.id)
        embedded_until = time.monotonic() + self.settings.embedding_seconds
        for number, tables in enumerate(parts):
            clock.lap("compare")
            if len(batch.uploads) < self.settings.batch_uploads and HOT.address in tables:
                tables[HOT.address].rows = table_rows.with_vectors(
                    tables[HOT.address].rows, self._embed_with(), embedded_until
                )
            clock.lap("embed")
            self._commit(batch, number, tables, result)
            clock.lap("commit")
        self.on_step("committed")
        hot_version = result.versions.get(HOT.address)
        for ref in extractions:
            counts = {
                **difference.counts.get(ref, {}),
                "rows_read": extractions[ref].rows_read,
                "hot_version": hot_version,
            }
            extras = {"flaws": {**fetched[ref].flaws, **extractions[ref].flaws}, "skipped_files": fetched[ref].skipped}
            outcomes[ref] = UploadOutcome(
                UploadState.INGESTED, {**counts, **{name: value for name, value in extras.items() if value}}
            )
        ingested = {ref: fetched[ref] for ref, outcome in outcomes.items() if outcome.state == UploadState.INGESTED}
        states = read.systems.after(difference.known, ingested)
        claims.finish(self.ledger, batch, outcomes, states, rows=sum(result.rows.values()), now=now())
        clock.lap("ledger")
        self.on_step("finished")
        for ref, outcome in outcomes.items():
            result.uploads[outcome.state] = result.uploads.get(outcome.state, 0) + 1
            day = fetched[ref].upload.arrival_day
            result.arrival_days[day] = result.arrival_days.get(day, 0) + 1
        result.seconds = read.seconds | clock.laps
        upload_tracing.record_batch(batch, outcomes, began_at=read.began_at, ended_at=now(), seconds=result.seconds)
        return result

    def _extract(self, read: ReadBatch) -> None:  # noqa: C901
        fetched, outcomes, systems = read.fetched, read.outcomes, read.systems
        held_bytes = expected_bytes = 0
        days: set[date] = set()
        deadline = time.monotonic() + self.settings.batch_seconds

        def jobs() -> Iterator[ExtractionJob]:
            nonlocal expected_bytes
            for one in fetch_all(self.settings, read.batch.uploads, systems.digests_of, self.spool):
                self.on_step("fetched")
                full = (held_bytes + expected_bytes) > BATCH_ARROW_BYTES or len(
                    days
                ) >= self.settings.upload_max_event_days
                if self.stop() or time.monotonic() > deadline or full:
                    one.discard()
                    return
                upload = one.upload
                fetched[upload.id] = one
                if isinstance(one.failure, StoreUnavailable):
                    read.unread.append(one)
                    outcomes[upload.id] = UploadOutcome(UploadState.WAITING, message=str(one.failure), is_outage=True)
                    read.is_inbox_up = False
                    if _fails_all(read):
                        return
                    continue
                if not read.is_inbox_up:
                    # The inbox hands out others: what it does not hand out counts as an attempt of the upload.
                    read.is_inbox_up = True
                    outcomes.update(
                        {other.upload.id: _failed(cast(StoreUnavailable, other.failure)) for other in read.unread}
                    )
                if one.failure is not None:
                    outcomes[upload.id] = _failed(one.failure)
                elif not one.files:
                    outcomes[upload.id] = UploadOutcome(
                        UploadState.INGESTED, {"rows_read": 0, "skipped_files": one.skipped, "hot_version": None}
                    )
                else:
                    known = systems.rows[upload.system_id]
                    expected_bytes += ARROW_TO_COMPRESSED * upload.bytes
                    yield ExtractionJob(
                        upload.id, upload.system_id, upload.snapshot_at, upload.seen_at, one.files, known
                    )

        for job, extraction in self.pool.extract(jobs()):
            fetched[job.ref].discard()
            expected_bytes -= ARROW_TO_COMPRESSED * fetched[job.ref].upload.bytes
            if isinstance(extraction, Extraction):
                own = _event_days(extraction)
                if len(own) > self.settings.upload_max_event_days:
                    outcomes[job.ref] = _failed(_too_many_days(own, self.settings.upload_max_event_days))
                    continue
                if len(days | own) > self.settings.upload_max_event_days:
                    # It waits for the next batch: each day is a file that is written at the same time as all others.
                    continue
                if read.extractions and held_bytes + extraction.bytes_in_memory > 2 * BATCH_ARROW_BYTES:
                    # It waits for the next batch: its rows are many more than its compressed bytes promised.
                    continue
                days |= own
                read.extractions[job.ref] = extraction
                held_bytes += extraction.bytes_in_memory + extraction.bytes_in_files
            else:
                outcomes[job.ref] = _failed(extraction)

    def _commit(self, batch: Batch, number: int, tables: dict[str, table_rows.TableRows], result: BatchResult) -> None:
        metadata = {"akosha_batch": str(batch.id), "akosha_lane": str(batch.lane)}
        fence = replace(batch.fence, part=number)
        # A table that was lost meanwhile would be made anew, empty but for these rows.
        known_tables.check(self.ledger, self.lake, tables)
        versions: dict[str, int] = {}
        for spec in WRITTEN_BY_INGESTION:
            if spec.address not in tables:
                continue
            part = tables[spec.address]
            if part.replaces:
                versions[spec.address] = self.lake.upsert(spec.address, part.rows, fence, metadata, only=part.replaces)
            else:
                versions[spec.address] = self.lake.append(spec.address, part.rows, fence, metadata)
            result.rows[spec.address] = result.rows.get(spec.address, 0) + part.rows.num_rows
            self.on_step(f"committed {spec.address}")
        result.versions |= versions
        known_tables.remember(self.ledger, self.lake, versions)
        if HOT.address in tables:
            days = tables[HOT.address].rows["event_day"].value_counts()
            for entry in days.to_pylist():
                result.event_days[entry["values"]] = result.event_days.get(entry["values"], 0) + entry["counts"]

    def fence_off(self, fence: Fence) -> None:
        """Nothing of an earlier sequence of that writer can be committed to any table from now on."""
        for spec in WRITTEN_BY_INGESTION:
            self.lake.append(spec.address, spec.schema.empty_table(), fence, {"akosha_fence": fence.writer})

    def _embed_with(self) -> Embedder | None:
        if not self._embedder_asked and self.settings.embedding_seconds > 0:
            self._embedder_asked = True
            try:
                self._embedder = Embedder.load(self.settings)
            except EmbeddingUnavailable as error:
                logger.info("rows are stored without vectors", extra={"cause": str(error)})
        return self._embedder


def _fails_all(read: ReadBatch) -> bool:
    """Whether the inbox refused as many uploads in a row as are asked for at once."""
    last = list(read.fetched.values())[-UNREAD_IN_A_ROW:]
    return len(last) == UNREAD_IN_A_ROW and all(isinstance(one.failure, StoreUnavailable) for one in last)


def _event_days(extraction: Extraction) -> set[date]:
    """The event days of the memories to store."""
    if (spooled := extraction.spooled.get(HOT.address)) is not None:
        return set(pa.array(np.unique(spooled.days)).view(pa.date32()).to_pylist())
    rows = extraction.rows.get(HOT.address)
    return set() if rows is None else set(rows["event_day"].unique().to_pylist())


def _too_many_days(days: set[date], most: int) -> UploadRejected:
    return UploadRejected(
        "too_many_event_days",
        f"the rows to store fall on {len(days):,} days from {min(days)} to {max(days)}; expected at most {most:,} "
        "(AKOSHA_UPLOAD_MAX_EVENT_DAYS): raise it and redrive the upload if its times are right",
    )


def _failed(error: Exception) -> UploadOutcome:
    if isinstance(error, TransientError):
        return UploadOutcome(UploadState.WAITING, message=str(error))
    return UploadOutcome(UploadState.QUARANTINED, reason=error.reason, message=error.message, sample=error.sample)  # type: ignore[attr-defined]


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to `name`."""
        at = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + at - self._last
        self._last = at


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)

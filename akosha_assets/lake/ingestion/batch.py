"""One batch in two steps: read it (`batch_reading.py`), then store it: compare, commit to Delta, update the ledger.

The order makes a crash harmless: the ledger records that the batch begins to commit, the rows are committed under its
fence, and the ledger records the end. After a crash in between, the systems of the batch are compared with the tables.
`reconcile.py` decides which rows are stored, `table_rows.py` converts them to table rows, and `arrivals.py` claims
batches and handles their failures.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.ingestion import upload_tracing
from akosha_assets.lake.ingestion.batch_reading import BatchReader, ReadBatch, ReadingEnvironment
from akosha_assets.lake.ingestion.extraction.pool import ExtractionPool
from akosha_assets.lake.ingestion.ledger import claims, known_tables
from akosha_assets.lake.ingestion.ledger.claims import Batch
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.ingestion.merge import reconcile, stored_texts, table_rows
from akosha_assets.lake.ingestion.merge.reconcile import Difference
from akosha_assets.lake.ingestion.merge.system_state import SystemStates
from akosha_assets.lake.ingestion.merge.table_rows import TableRows
from akosha_assets.lake.schemas import HOT, WRITTEN_BY_INGESTION
from akosha_assets.lake.tables import Fence

logger = logging.getLogger(__name__)


@dataclass
class BatchResult:
    """Counts of one batch: uploads by state and by arrival day, rows by table, hot rows by event day.

    `versions` has the newest version by table, `seconds` the duration by step.
    """

    batch_id: int
    uploads: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    versions: dict[str, int] = field(default_factory=dict)
    event_days: Counter[date] = field(default_factory=Counter)
    arrival_days: Counter[date] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)


class BatchIngest:
    """Reads and stores the batches of one run. One batch is read at a time, while another one may be stored."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        pool: ExtractionPool,
        spool: Path,
        stop: Callable[[], bool],
        on_step: Callable[[str], None],
    ):
        self.lake, self.ledger = lake, ledger
        self._settings = ledger.settings
        self._environment = ReadingEnvironment(ledger.settings, pool, spool, stop, on_step)
        self._embedder: Embedder | None = None
        self._is_embedder_loaded = False

    def read(self, batch: Batch) -> ReadBatch:
        """Fetches and extracts the uploads of the batch, until `stop()` or one of the bounds of a batch is reached."""
        timer, began_at = _StepTimer(), now()
        system_ids = sorted({one.system_id for one in batch.uploads})
        systems = SystemStates.load(self.lake, self.ledger, system_ids, now=began_at)
        timer.end_step("known")
        read = ReadBatch(batch=batch, systems=systems, began_at=began_at)
        BatchReader(self._environment, read).run()
        timer.end_step("extract")
        read.seconds = timer.seconds
        return read

    def store(self, read: ReadBatch) -> BatchResult:
        """Commits the rows of the batch to the tables, and its outcomes to the ledger."""
        timer, batch, on_step = _StepTimer(), read.batch, self._environment.on_step
        difference = reconcile.compare(
            table_rows.snapshots(read.extractions, read.fetched),
            table_rows.seen(read.extractions),
            read.systems.rows_of({read.fetched[ref].upload.system_id for ref in read.extractions}),
            spill=self._environment.spool,
            stored_texts=partial(stored_texts.text_hashes, self.lake),
        )
        provenance = table_rows.Provenance(batch.id, read.fetched, self._settings.uploaded_vector_space)
        timer.end_step("compare")
        on_step("before_commit")
        claims.begin_commit(self.ledger, batch, now=now())
        result = BatchResult(batch.id)
        embedded_until: float | None = None
        for number, tables in enumerate(table_rows.parts(read.extractions, difference, provenance)):
            timer.end_step("compare")
            if len(batch.uploads) < self._settings.batch_uploads and HOT.address in tables:
                hot, embedder = tables[HOT.address], self._load_embedder()
                # The time to load the model does not count.
                embedded_until = embedded_until or time.monotonic() + self._settings.embedding_seconds
                hot.rows = table_rows.with_vectors(hot.rows, embedder, embedded_until)
            timer.end_step("embed")
            self._commit(batch, number, tables, result)
            timer.end_step("commit")
        on_step("committed")
        read.outcomes |= _outcomes(read, difference, result.versions.get(HOT.address))
        ingested = {
            ref: read.fetched[ref] for ref, outcome in read.outcomes.items() if outcome.state == UploadState.INGESTED
        }
        states = read.systems.after(difference.known, ingested)
        claims.finish(self.ledger, batch, read.outcomes, states, rows=sum(result.rows.values()), now=now())
        timer.end_step("ledger")
        on_step("finished")
        for ref, outcome in read.outcomes.items():
            result.uploads[outcome.state] += 1
            result.arrival_days[read.fetched[ref].upload.arrival_day] += 1
        result.seconds = read.seconds | timer.seconds
        upload_tracing.record_batch(
            batch, read.outcomes, began_at=read.began_at, ended_at=now(), seconds=result.seconds
        )
        return result

    def fence_off(self, fence: Fence) -> None:
        """Prevents commits to any table by earlier sequences of the fence's writer."""
        for spec in WRITTEN_BY_INGESTION:
            self.lake.append(spec.address, spec.schema.empty_table(), fence, {"akosha_fence": fence.writer})

    def _commit(self, batch: Batch, number: int, tables: dict[str, TableRows], result: BatchResult) -> None:
        """Commits part `number` of the rows of the batch and adds it to `result`."""
        metadata = {"akosha_batch": str(batch.id), "akosha_lane": str(batch.lane)}
        fence = replace(batch.fence, part=number)
        # Otherwise a table that was lost meanwhile would be created again with only these rows.
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
            result.rows[spec.address] += part.rows.num_rows
            self._environment.on_step(f"committed {spec.address}")
        result.versions |= versions
        known_tables.remember(self.ledger, self.lake, versions)
        if HOT.address in tables:
            for entry in tables[HOT.address].rows["event_day"].value_counts().to_pylist():
                result.event_days[entry["values"]] += entry["counts"]

    def _load_embedder(self) -> Embedder | None:
        if not self._is_embedder_loaded and self._settings.embedding_seconds > 0:
            self._is_embedder_loaded = True
            try:
                self._embedder = Embedder.load(self._settings)
            except EmbeddingUnavailable as error:
                logger.info("rows are stored without vectors", extra={"cause": str(error)})
        return self._embedder


def _outcomes(read: ReadBatch, difference: Difference, hot_version: int | None) -> dict[int, UploadOutcome]:
    """Returns the outcomes of the extracted uploads, with their counts."""
    outcomes = {}
    for ref, extraction in read.extractions.items():
        counts = {**difference.counts.get(ref, {}), "rows_read": extraction.rows_read, "hot_version": hot_version}
        fetched = read.fetched[ref]
        extras = {"flaws": {**fetched.flaws, **extraction.flaws}, "skipped_files": fetched.skipped}
        outcomes[ref] = UploadOutcome(
            UploadState.INGESTED, counts | {name: value for name, value in extras.items() if value}
        )
    return outcomes


class _StepTimer:
    """Measures seconds by step; a step may run several times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_step(self, name: str) -> None:
        """Adds the time since the last call to the step `name`."""
        at = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + at - self._last
        self._last = at


def now() -> datetime:
    """Returns the current time in UTC."""
    return datetime.now(UTC)

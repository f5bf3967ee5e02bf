"""Takes waiting uploads in, batch by batch: claims one, reads it while the one before it is stored, answers for failures.

The workers that read uploads would idle while rows are compared and committed, so a run holds up to two batches, each
under its own lease and lane; a system is in one of them at most. The steps of one batch are in `intake.py`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from types import TracebackType

import duckdb
import pyarrow as pa
from deltalake.exceptions import DeltaError

from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LeaseLost, TransientError
from akosha_assets.lake.ingestion import belonging, claims, scratch
from akosha_assets.lake.ingestion.claims import Batch
from akosha_assets.lake.ingestion.extraction import ExtractionPool
from akosha_assets.lake.ingestion.intake import BatchResult, Intake, Read, now
from akosha_assets.lake.ingestion.ledger import Ledger

__all__ = ["BatchResult", "ingest"]

logger = logging.getLogger(__name__)


def ingest(
    lake: Lake,
    ledger: Ledger,
    *,
    run_id: str,
    stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[BatchResult], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
    arrival_day: date | None = None,
) -> list[BatchResult]:
    """Nothing that could be claimed is waiting any more, or `stop()` was true between two uploads; returns what was done.

    `on_batch` is called in this thread, `on_step` with the name of each step as it begins, in whichever thread it does.
    With `arrival_day` only uploads of that day are taken.

    Raises:
        LedgerMismatch: the ledger does not belong to the tables.
        TransientError: a store did not answer; the batch is given back.
    """
    belonging.check(lake, ledger)
    settings = ledger.settings
    with (
        ExtractionPool(settings) as pool,
        scratch.spool() as spool,
        _Storing(intake := Intake(lake, ledger, pool, spool, stop, on_step), run_id, on_batch) as storing,
    ):
        while True:
            claims.recover(ledger, intake.fence_off, now=now())
            batch = None if stop() else claims.claim(ledger, run_id=run_id, now=now(), arrival_day=arrival_day)
            if batch is None:
                if storing.finish():
                    # Its systems are free again, and may have more uploads.
                    continue
                break
            on_step("claimed")
            lease, read = _Lease(ledger, batch), None
            try:
                with telemetry.bound(run_id=run_id, batch_id=batch.id), _given_back_on_failure(ledger, batch):
                    read = intake.read(batch)
            finally:
                if read is None:
                    lease.end()
            if read is not None:
                storing.begin(read, lease)
    telemetry.flush()
    return storing.results


class _Storing:
    """Stores one batch at a time in a thread of its own; a context manager, after which nothing is under way."""

    def __init__(self, intake: Intake, run_id: str, on_batch: Callable[[BatchResult], None]):
        self.results: list[BatchResult] = []
        self._intake, self._run_id, self._on_batch = intake, run_id, on_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._under_way: Future[BatchResult | None] | None = None

    def __enter__(self) -> "_Storing":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._thread:
            self.finish()

    def begin(self, read: Read, lease: "_Lease") -> None:
        """The batch before this one is stored; this one is being stored. Raises: what made the one before fail the run."""
        try:
            self.finish()
        except BaseException:
            # This batch is sound, but its run ends.
            claims.give_back(self._intake.ledger, read.batch, error="the run that held it failed", at_fault=False, now=now())
            lease.end()
            raise
        self._under_way = self._thread.submit(self._store, read, lease)

    def finish(self) -> bool:
        """Nothing is being stored; returns whether something was. Raises: what made the batch fail the run."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return False
        if result := under_way.result():
            self.results.append(result)
            self._on_batch(result)
        return True

    def _store(self, read: Read, lease: "_Lease") -> BatchResult | None:
        try:
            with telemetry.bound(run_id=self._run_id, batch_id=read.batch.id), _given_back_on_failure(self._intake.ledger, read.batch):
                return self._intake.store(read)
            return None
        finally:
            lease.end()


@contextmanager
def _given_back_on_failure(ledger: Ledger, batch: Batch) -> Iterator[None]:
    """Whatever goes wrong inside, the batch's uploads wait again. Goes on where only this batch failed, else raises."""
    try:
        yield
    except LeaseLost:
        logger.warning("batch was taken over by another run")
    except (pa.ArrowException, duckdb.Error, DeltaError) as error:
        # Something in it cannot be stored. Smaller and smaller batches find out which upload it is.
        logger.exception("batch failed and is given back in smaller parts")
        claims.give_back(ledger, batch, error=f"{type(error).__name__}: {error}", at_fault=True, now=now())
    except BaseException as error:
        claims.give_back(
            ledger,
            batch,
            error=f"{type(error).__name__}: {error}",
            at_fault=not isinstance(error, TransientError | KeyboardInterrupt),
            now=now(),
        )
        raise


class _Lease:
    """A batch's lease, renewed in the background until `end`. A lost one is noticed where it matters: at the next step in the ledger."""

    def __init__(self, ledger: Ledger, batch: Batch):
        self._ledger, self._batch = ledger, batch
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{batch.id}", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._done.wait(self._ledger.settings.lease_seconds / 3):
            try:
                claims.renew(self._ledger, self._batch, now=now())
            except LeaseLost:
                return

    def end(self) -> None:
        """The lease is renewed no more."""
        self._done.set()
        self._thread.join()

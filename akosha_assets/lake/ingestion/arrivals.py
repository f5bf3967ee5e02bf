"""Ingests waiting uploads batch by batch: claims a batch, reads it while the previous one is stored, handles failures.

Workers would idle while rows are compared and committed, so a run has up to two batches, each with its own lease and
lane; a system is in at most one of them. The steps of one batch are in `batch.py`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from types import TracebackType

from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import ClockWrong, LakeError, LeaseLost, StoreUnavailable
from akosha_assets.lake.ingestion import ledger_rebuild
from akosha_assets.lake.ingestion.batch import BatchIngest, BatchResult, now
from akosha_assets.lake.ingestion.batch_reading import ReadBatch
from akosha_assets.lake.ingestion.extraction import scratch
from akosha_assets.lake.ingestion.extraction.pool import ExtractionPool
from akosha_assets.lake.ingestion.ledger import claims, outages, plausible
from akosha_assets.lake.ingestion.ledger.claims import Batch
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outage_errors import find_outage, is_upload_blameless

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
    """Ingests uploads until none can be claimed, or `stop()` is true between two uploads; returns the batches.

    Calls `on_batch` in this thread, and `on_step` with the name of a step in the thread that runs it. With
    `arrival_day`, ingests only uploads of that day.

    Raises:
        LedgerMismatch: the ledger does not belong to the tables.
        TableLost: a table that was written to is missing or was reset to an older version.
        TransientError: a store, the ledger or this machine's disk failed, or its clock is wrong. Claimed uploads wait
            again; no attempt is counted.
    """
    with outages.recorded(ledger, "ingest"), _local_failures():
        results, unread = _ingest(lake, ledger, run_id, stop, on_batch, on_step, arrival_day)
    telemetry.flush()
    if unread:
        example = next(iter(unread.values()))
        raise StoreUnavailable(
            ledger.settings.inbox(),
            f"{len(unread)} uploads could not be read and wait; the error of one of them: {example}",
        )
    return results


def _ingest(
    lake: Lake,
    ledger: Ledger,
    run_id: str,
    stop: Callable[[], bool],
    on_batch: Callable[[BatchResult], None],
    on_step: Callable[[str], None],
    arrival_day: date | None,
) -> tuple[list[BatchResult], dict[int, str]]:
    """Returns the stored batches, and the errors of uploads that could not be fetched by their id in the ledger."""
    if now() < plausible.EARLIEST:
        raise ClockWrong(now())
    ledger_rebuild.check(lake, ledger)
    if outages.find(ledger, "ingest") is not None:
        outages.release_waiting(ledger)
    settings, unread = ledger.settings, _Unread(ledger.settings.inbox())
    with (
        ExtractionPool(settings) as pool,
        scratch.spool() as spool,
        _Storing(batches := BatchIngest(lake, ledger, pool, spool, stop, on_step), run_id, on_batch) as storing,
    ):
        while True:
            claims.recover(ledger, batches.fence_off, now=now())
            batch = None if stop() else claims.claim(ledger, run_id=run_id, now=now(), arrival_day=arrival_day)
            if batch is None:
                if not storing.finish():
                    break
                # The systems of the finished batch can be claimed again, and may have more uploads.
                continue
            on_step("claimed")
            lease, read = _Lease(ledger, batch), None
            try:
                with (
                    telemetry.log_context(run_id=run_id, batch_id=batch.id),
                    _released_on_failure(ledger, batch, storing.blame),
                ):
                    read = batches.read(batch)
            finally:
                if read is None:
                    lease.end()
            if read is not None:
                unread.add(read)
                storing.begin(read, lease)
                unread.check()
        storing.finish()
    unread.check(is_end=True)
    return storing.results, unread.causes


class _Unread:
    """The uploads of a run that could not be fetched from the inbox at `url`."""

    def __init__(self, url: str):
        self.causes: dict[int, str] = {}
        self._url, self._is_inbox_up, self._batches = url, True, 0

    def add(self, read: ReadBatch) -> None:
        """Adds the unread uploads of a batch, and removes those that were read this time."""
        failed = {one.upload.id: str(failure) for one, failure in read.unread}
        others = {ref: cause for ref, cause in self.causes.items() if ref not in read.fetched}
        self.causes = others | failed
        if set(read.fetched) - set(failed):
            self._batches = 0
        elif failed:
            self._batches += 1
        self._is_inbox_up = read.is_inbox_up

    def check(self, *, is_end: bool = False) -> None:
        """Checks whether the inbox still returns uploads.

        Raises:
            StoreUnavailable: nothing of two consecutive batches could be fetched, or not the last upload of the run.
        """
        if self._batches >= 2 or (is_end and not self._is_inbox_up):
            cause = next(reversed(self.causes.values()), "")
            raise StoreUnavailable(
                self._url, f"{len(self.causes)} uploads could not be read and wait; the error of the last one: {cause}"
            )


class _Blame:
    """Decides whether a failure counts as the upload's: while nothing could be stored, only one upload is blamed."""

    def __init__(self) -> None:
        self.has_stored = False
        self._failed: set[int] = set()

    def blames(self, batch: Batch) -> bool:
        """Whether the failure of `batch` counts as an attempt of its uploads.

        The failure of a batch of several does not show which upload is at fault, so none of them is recorded as failed.
        """
        if len(batch.uploads) == 1:
            self._failed.add(batch.uploads[0].id)
        return self.has_stored or len(self._failed) <= 1


class _Storing:
    """Stores one batch at a time in its own thread; a context manager that waits for the thread on exit."""

    def __init__(self, batches: BatchIngest, run_id: str, on_batch: Callable[[BatchResult], None]):
        self.results: list[BatchResult] = []
        self._batches, self._run_id, self._on_batch = batches, run_id, on_batch
        self.blame = _Blame()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._pending: Future[BatchResult | None] | None = None

    def __enter__(self) -> "_Storing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._thread:
            self.finish()

    def begin(self, read: ReadBatch, lease: "_Lease") -> None:
        """Waits for the previous batch, then starts to store this one.

        Raises: the error of the previous batch, if it ends the run.
        """
        try:
            self.finish()
        except BaseException:
            # This batch did not fail, but its run ends.
            _release(self._batches.ledger, read.batch, error="its run ended before it was stored", at_fault=False)
            lease.end()
            raise
        self._pending = self._thread.submit(self._store, read, lease)

    def finish(self) -> bool:
        """Waits for the batch that is being stored; returns whether there was one.

        Raises: the error of the batch, if it ends the run.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return False
        if result := pending.result():
            self.results.append(result)
            self._on_batch(result)
        return True

    def _store(self, read: ReadBatch, lease: "_Lease") -> BatchResult | None:
        try:
            with (
                telemetry.log_context(run_id=self._run_id, batch_id=read.batch.id),
                _released_on_failure(self._batches.ledger, read.batch, self.blame),
            ):
                result = self._batches.store(read)
                self.blame.has_stored = self.blame.has_stored or bool(read.extractions)
                return result
            return None
        finally:
            lease.end()


@contextmanager
def _local_failures() -> Iterator[None]:
    """Raises file errors of the block as `LocalStorageFailed`."""
    try:
        yield
    except Exception as error:
        outage = find_outage(error)
        if outage is None or outage is error:
            raise
        raise outage from error


@contextmanager
def _released_on_failure(ledger: Ledger, batch: Batch, blame: _Blame) -> Iterator[None]:
    """Releases the batch when the block fails.

    An outage or a lost table ends the run and counts no attempt. Any other failure may be the fault of one upload:
    the run continues, and smaller and smaller batches isolate the upload. When a second upload fails and nothing could
    be stored, the run ends.
    """
    try:
        yield
    except LeaseLost:
        logger.warning("another run took over the batch")
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        is_blamed = not is_upload_blameless(error) and blame.blames(batch)
        _release(ledger, batch, error=cause, at_fault=is_blamed, is_paused=is_blamed and not blame.has_stored)
        if not is_blamed:
            raise
        logger.exception("a batch failed; its uploads will be claimed again in smaller batches")
    except BaseException as error:
        # A signal ends the run.
        _release(ledger, batch, error=f"{type(error).__name__}: {error}", at_fault=False)
        raise


def _release(ledger: Ledger, batch: Batch, *, error: str, at_fault: bool, is_paused: bool = False) -> None:
    try:
        claims.release(ledger, batch, error=error, at_fault=at_fault, is_paused=is_paused, now=now())
    except LakeError as second:
        # The ledger may have failed too: the batch is recovered when its lease ends.
        logger.warning("a batch could not be released", extra={"cause": str(second), "batch": batch.id})


class _Lease:
    """Renews the lease of a batch in the background until `end`.

    If the lease is lost, the next step of the batch in the ledger raises LeaseLost.
    """

    def __init__(self, ledger: Ledger, batch: Batch):
        self._ledger, self._batch = ledger, batch
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{batch.id}", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._done.wait(self._ledger.settings.lease_seconds / 3):
            try:
                claims.renew(self._ledger, self._batch, now=now())
            except LeaseLost:
                return
            except LakeError as error:
                # The next renewal may reach the ledger in time.
                logger.warning("a lease could not be renewed", extra={"batch": self._batch.id, "cause": str(error)})

    def end(self) -> None:
        """Stops renewing the lease."""
        self._done.set()
        self._thread.join()

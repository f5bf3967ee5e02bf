"""Takes waiting uploads in, batch by batch: claims one, reads it while the one before it is stored, answers for
failures.

The workers that read uploads would idle while rows are compared and committed, so a run holds up to two batches, each
under its own lease and lane; a system is in one of them at most. The steps of one batch are in `batch.py`.
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
from akosha_assets.lake.ingestion.batch import BatchIngest, BatchResult, ReadBatch, now
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
    """Nothing that could be claimed is waiting any more, or `stop()` was true between two uploads; returns what was
    done.

    `on_batch` is called in this thread, `on_step` with the name of each step as it begins, in whichever thread it does.
    With `arrival_day` only uploads of that day are taken.

    Raises:
        LedgerMismatch: the ledger does not belong to the tables.
        TransientError: a store, the ledger or this machine's disk failed. What was under way waits again, no attempt
            counted.
    """
    with outages.recorded(ledger, "ingest"), _local_failures():
        results, unread = _ingest(lake, ledger, run_id, stop, on_batch, on_step, arrival_day)
    telemetry.flush()
    if unread:
        example = next(iter(unread.values()))
        raise StoreUnavailable(
            ledger.settings.inbox(), f"{len(unread)} uploads could not be read and wait, one of them: {example}"
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
    """The batches that were stored, and why the inbox did not hand out some uploads, by their id in the ledger."""
    if now() < plausible.EARLIEST:
        raise ClockWrong(now())
    ledger_rebuild.check(lake, ledger)
    if outages.find(ledger, "ingest") is not None:
        outages.release_waiting(ledger)
    settings, unread = ledger.settings, _Unread(ledger.settings.inbox())
    with (
        ExtractionPool(settings) as pool,
        scratch.spool() as spool,
        _Storing(intake := BatchIngest(lake, ledger, pool, spool, stop, on_step), run_id, on_batch) as storing,
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
                with (
                    telemetry.log_context(run_id=run_id, batch_id=batch.id),
                    _given_back_on_failure(ledger, batch, storing.blame),
                ):
                    read = intake.read(batch)
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
    """The uploads of a run that the inbox at `url` did not hand out, and whether it hands out any."""

    def __init__(self, url: str):
        self.causes: dict[int, str] = {}
        self._url, self._is_inbox_up, self._batches = url, True, 0

    def add(self, read: ReadBatch) -> None:
        """What `read` tells of the inbox is known."""
        failed = {one.upload.id for one in read.unread}
        self.causes = {ref: cause for ref, cause in self.causes.items() if ref not in read.fetched}
        self.causes |= {one.upload.id: str(one.failure) for one in read.unread}
        if set(read.fetched) - failed:
            self._batches = 0
        elif failed:
            self._batches += 1
        self._is_inbox_up = read.is_inbox_up

    def check(self, *, is_end: bool = False) -> None:
        """Goes on while another batch may fare better.

        Raises:
            StoreUnavailable: the inbox handed out nothing of two batches, or nothing any more at the end.
        """
        if self._batches >= 2 or (is_end and not self._is_inbox_up):
            cause = next(reversed(self.causes.values()), "")
            raise StoreUnavailable(
                self._url, f"{len(self.causes)} uploads could not be read and wait, the last one: {cause}"
            )


class _Blame:
    """Tells uploads that cannot be stored from a fault of our own: while nothing at all could be stored, only one
    upload is blamed.
    """

    def __init__(self) -> None:
        self.has_stored = False
        self._failed: set[int] = set()

    def blames(self, batch: Batch) -> bool:
        """Whether the failure of `batch` counts against its uploads. Of several nobody knows which one it was, so none
        is blamed yet.
        """
        if len(batch.uploads) == 1:
            self._failed.add(batch.uploads[0].id)
        return self.has_stored or len(self._failed) <= 1


class _Storing:
    """Stores one batch at a time in a thread of its own; a context manager, after which nothing is under way."""

    def __init__(self, intake: BatchIngest, run_id: str, on_batch: Callable[[BatchResult], None]):
        self.results: list[BatchResult] = []
        self._intake, self._run_id, self._on_batch = intake, run_id, on_batch
        self.blame = _Blame()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._under_way: Future[BatchResult | None] | None = None

    def __enter__(self) -> "_Storing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._thread:
            self.finish()

    def begin(self, read: ReadBatch, lease: "_Lease") -> None:
        """The batch before this one is stored; this one is being stored. Raises: what made the one before fail the run."""
        try:
            self.finish()
        except BaseException:
            # This batch is sound, but its run ends.
            _give_back(self._intake.ledger, read.batch, error="the run that held it failed", at_fault=False)
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

    def _store(self, read: ReadBatch, lease: "_Lease") -> BatchResult | None:
        try:
            with (
                telemetry.log_context(run_id=self._run_id, batch_id=read.batch.id),
                _given_back_on_failure(self._intake.ledger, read.batch, self.blame),
            ):
                result = self._intake.store(read)
                self.blame.has_stored = self.blame.has_stored or bool(read.extractions)
                return result
            return None
        finally:
            lease.end()


@contextmanager
def _local_failures() -> Iterator[None]:
    """Failures of this machine's disk are raised as what they are."""
    try:
        yield
    except Exception as error:
        outage = find_outage(error)
        if outage is None or outage is error:
            raise
        raise outage from error


@contextmanager
def _given_back_on_failure(ledger: Ledger, batch: Batch, blame: _Blame) -> Iterator[None]:
    """Whatever goes wrong inside, the batch's uploads wait again.

    An outage ends the run and costs the uploads nothing. Everything else may be the fault of one of them: smaller and
    smaller batches find out which one, while the run goes on. When a second one fails and nothing could be stored, the
    run ends.
    """
    try:
        yield
    except LeaseLost:
        logger.warning("batch was taken over by another run")
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        is_blamed = not is_upload_blameless(error) and blame.blames(batch)
        _give_back(ledger, batch, error=cause, at_fault=is_blamed, is_paused=is_blamed and not blame.has_stored)
        if not is_blamed:
            raise
        logger.exception("batch failed and is given back in smaller parts")
    except BaseException as error:
        # The run is interrupted.
        _give_back(ledger, batch, error=f"{type(error).__name__}: {error}", at_fault=False)
        raise


def _give_back(ledger: Ledger, batch: Batch, *, error: str, at_fault: bool, is_paused: bool = False) -> None:
    try:
        claims.release(ledger, batch, error=error, at_fault=at_fault, is_paused=is_paused, now=now())
    except LakeError as second:
        # The ledger may be what is out: the batch is given back when its lease ends.
        logger.warning("a batch could not be given back", extra={"cause": str(second), "batch": batch.id})


class _Lease:
    """A batch's lease, renewed in the background until `end`. A lost one is noticed where it matters: at the next step
    in the ledger.
    """

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
            except LakeError as error:
                # The next renewal may reach the ledger in time.
                logger.warning("a lease could not be renewed", extra={"batch": self._batch.id, "cause": str(error)})

    def end(self) -> None:
        """The lease is renewed no more."""
        self._done.set()
        self._thread.join()

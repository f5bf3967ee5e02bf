"""Extracts the changed rows of uploads with a pool of sandboxed worker processes, which read the hostile files.

This process never opens an uploaded database. `protocol.py` validates the answers of workers before they are used.
"""

import logging
import selectors
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType

from akosha_assets.lake.errors import LocalStorageFailed, UploadRejected, WorkerUnavailable
from akosha_assets.lake.ingestion.extraction.protocol import Extraction, ExtractionJob, SourceFile, read_answer
from akosha_assets.lake.ingestion.extraction.scratch import Scratch
from akosha_assets.lake.ingestion.extraction.worker_handle import Sent, Worker
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA, SEEN_SCHEMA
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.settings import LakeSettings

__all__ = [
    "KNOWN_SCHEMA",
    "PARSER_VERSION",
    "SEEN_SCHEMA",
    "Extraction",
    "ExtractionJob",
    "ExtractionPool",
    "SourceFile",
]

# Increase it when the same upload gives different rows than before.
PARSER_VERSION = 2

# Small uploads are read in groups, at half the cost of reading each individually. A group gets the time and memory of
# a single upload.
GROUP_UPLOADS = 8
GROUP_FILES = 16
GROUP_BYTES = 1024**2
GROUP_KNOWN_ROWS = 50_000
# Total length of file names and keys, which are sent in one message.
GROUP_NAME_CHARACTERS = 8192
_GROUP_LIMITS = (GROUP_FILES, GROUP_BYTES, GROUP_KNOWN_ROWS, GROUP_NAME_CHARACTERS)

QUEUED_PER_WORKER = 2
UPLOADS_PER_WORKER = 2000
# Reasons of an upload whose worker could not write the unpacked files.
DISK_REASONS = ("worker_crashed", "database_unreadable")

Jobs = tuple[ExtractionJob, ...]
Outcome = tuple[ExtractionJob, Extraction | UploadRejected]

logger = logging.getLogger(__name__)


def group_jobs(jobs: Iterable[ExtractionJob]) -> Iterator[Jobs]:
    """Yields the jobs in order, in groups that are read together. A large job is a group of its own."""
    batch: list[ExtractionJob] = []
    used = nothing = [0] * len(_GROUP_LIMITS)
    for job in jobs:
        size = _size(job)
        if batch and _exceeds(used, size):
            yield tuple(batch)
            batch, used = [], nothing
        batch.append(job)
        used = [*map(sum, zip(used, size, strict=True))]
        if len(batch) == GROUP_UPLOADS or _exceeds(used, nothing):
            yield tuple(batch)
            batch, used = [], nothing
    if batch:
        yield tuple(batch)


def _size(job: ExtractionJob) -> list[int]:
    """Returns the size of a job in the units of `_GROUP_LIMITS`."""
    stored = sum(file.path.lstat().st_size for file in job.files)
    return [len(job.files), stored, job.known.num_rows, sum(len(file.name) + len(file.key) for file in job.files)]


def _exceeds(used: list[int], size: list[int]) -> bool:
    return any(one + other > most for one, other, most in zip(used, size, _GROUP_LIMITS, strict=True))


class ExtractionPool:
    """Long-lived worker processes; a context manager. Not thread-safe."""

    def __init__(self, settings: LakeSettings):
        self._processes = settings.workers
        self._limits = Limits(
            max_raw_bytes=settings.upload_max_raw_bytes,
            max_rows=settings.upload_max_rows,
            max_columns=settings.upload_max_columns,
            max_field_bytes=settings.upload_max_field_bytes,
            seconds=settings.upload_seconds,
            memory_bytes=settings.worker_memory_bytes,
            vectors=bool(settings.uploaded_vector_space),
        )
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._sequence = 0
        self._scratch: Scratch | None = None
        self._warned = False
        # Jobs to send again, each with whether a worker died on it: jobs of workers that ended, and jobs to read
        # individually.
        self._retries: deque[tuple[Jobs, bool]] = deque()

    def __enter__(self) -> "ExtractionPool":
        self._scratch = Scratch()
        self._spool = self._scratch.disk
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._workers):
            self._stop(worker)
        self._selector.close()
        if self._scratch:
            self._scratch.remove()
            self._scratch = None

    def extract(self, jobs: Iterable[ExtractionJob]) -> Iterator[Outcome]:
        """Yields each job with its outcome as it finishes. Pulls jobs as workers accept them, one ahead per worker.

        Raises:
            WorkerUnavailable: no worker can be started.
            LocalStorageFailed: the disk that workers unpack to is full.
        """
        if self._scratch is None:
            raise RuntimeError("ExtractionPool is used outside its with block")
        source = group_jobs(jobs)
        exhausted = False
        try:
            while True:
                wanted = bool(self._retries) or not exhausted
                # Jobs that a worker died on go to a worker that has read nothing else.
                is_fresh_wanted = bool(self._retries) and self._retries[0][1]
                worker = (
                    (self._unused_worker if is_fresh_wanted else self._least_loaded)(self._scratch) if wanted else None
                )
                if worker is not None:
                    batch, died_before = self._retries.popleft() if self._retries else (next(source, ()), False)
                    if not batch:
                        exhausted = True
                    else:
                        self._sequence += 1
                        worker.send(Sent(batch, f"result-{self._sequence}", died_before), self._scratch.memory)
                elif not any(one.queue for one in self._workers):
                    return
                yield from self._collect(wait=worker is None)
        finally:
            self._retries.clear()
            for worker in [one for one in self._workers if one.queue]:
                self._stop(worker)

    def _least_loaded(self, scratch: Scratch) -> Worker | None:
        """Returns a worker that accepts another job, starting one if the pool is not full; None when all are busy."""
        free = [
            worker
            for worker in self._workers
            if len(worker.queue) < QUEUED_PER_WORKER and worker.served < UPLOADS_PER_WORKER
        ]
        best = min(free, key=lambda worker: len(worker.queue), default=None)
        if (best is None or best.queue) and len(self._workers) < self._processes:
            best = self._start(scratch)
        return best

    def _unused_worker(self, scratch: Scratch) -> Worker | None:
        """Returns a worker that has read nothing, replacing an idle one if necessary; None when all are busy."""
        idle = [worker for worker in self._workers if not worker.queue]
        if unused := next((worker for worker in idle if not worker.served), None):
            return unused
        if len(self._workers) >= self._processes:
            if not idle:
                return None
            self._stop(idle[0])
        return self._start(scratch)

    def _start(self, scratch: Scratch) -> Worker:
        worker = Worker.start(scratch.worker_folders(), self._limits, PARSER_VERSION)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        return worker

    def _collect(self, *, wait: bool) -> Iterator[Outcome]:
        busy = [worker for worker in self._workers if worker.queue]
        timeout = max(0.0, min(worker.deadline for worker in busy) - monotonic()) if wait and busy else 0
        for key, _ in self._selector.select(timeout):
            yield from self._receive(key.data)
        for worker in [one for one in self._workers if one.queue and monotonic() > one.deadline]:
            if not worker.level:
                raise WorkerUnavailable(
                    f"an extraction worker was not ready in time; its standard error: {worker.stderr_tail() or 'empty'}"
                )
            sent = worker.queue.popleft()
            self._replace(worker)
            yield from self._reject_or_retry(
                sent,
                UploadRejected("worker_timeout", f"not read within {self._limits.seconds} s"),
                is_worker_suspect=worker.served > 0,
            )

    def _receive(self, worker: Worker) -> Iterator[Outcome]:
        message = worker.receive()
        if not worker.level:
            missing = {"landlock", "network", "calls"}.difference(worker.ready(message).split("+"))
            if missing and not self._warned:
                self._warned = True
                logger.warning(
                    "this kernel does not support all layers of the sandbox", extra={"missing": sorted(missing)}
                )
        elif not message:
            yield from self._died(worker)
        elif not worker.queue:
            self._replace(worker)
        else:
            sent = worker.queue.popleft()
            worker.since = monotonic()
            refs = [job.ref for job in sent.jobs]
            outcome, healthy = read_answer(message, worker.folders, sent.result, refs, self._spool)
            used, worker.served = worker.served > 0, worker.served + len(sent.jobs)
            if not healthy or worker.retains_memory() or (worker.served >= UPLOADS_PER_WORKER and not worker.queue):
                self._replace(worker)
            if isinstance(outcome, list):
                yield from zip(sent.jobs, outcome, strict=True)
            else:
                yield from self._reject_or_retry(sent, outcome, is_worker_suspect=used and not healthy)

    def _reject_or_retry(
        self, sent: Sent, rejection: UploadRejected | None, *, is_worker_suspect: bool
    ) -> Iterator[Outcome]:
        """Yields the rejection of a single job. Any of several jobs may be at fault: each is retried individually.

        A worker that had read other uploads is suspect: they may have damaged it. A fresh worker decides.
        """
        if len(sent.jobs) > 1 or rejection is None:
            logger.info(
                "a group of uploads failed; each is read individually",
                extra={"uploads": len(sent.jobs), "cause": str(rejection or "")},
            )
            self._retries.extend(((job,), False) for job in sent.jobs)
        elif is_worker_suspect and not sent.died_before:
            logger.info("a fresh worker reads an upload again before it is rejected", extra={"cause": str(rejection)})
            self._retries.append((sent.jobs, True))
        else:
            self._check_disk(rejection)
            yield sent.jobs[0], rejection

    def _check_disk(self, rejection: UploadRejected) -> None:
        """Checks whether a full disk may be why a worker failed. The files that the upload unpacked are removed by now.

        Raises: LocalStorageFailed where the disk is full.
        """
        if (
            rejection.reason in DISK_REASONS
            and self._scratch is not None
            and (full := self._scratch.find_full()) is not None
        ):
            raise LocalStorageFailed(f"{full}; an upload ended with {rejection.reason}: {rejection.message}")

    def _died(self, worker: Worker) -> Iterator[Outcome]:
        code = worker.process.wait()
        logger.warning("an extraction worker died", extra={"code": code, "stderr": worker.stderr_tail()})
        sent = worker.queue.popleft() if worker.queue else None
        self._replace(worker)
        if sent is None:
            return
        if code == -signal.SIGXCPU:
            timeout = UploadRejected("worker_timeout", f"more than {self._limits.seconds} s of processor time")
            yield from self._reject_or_retry(sent, timeout, is_worker_suspect=worker.served > 0)
        elif sent.died_before or len(sent.jobs) > 1:
            crash = UploadRejected(
                "worker_crashed", f"two workers died while they read it, the second with exit code {code}"
            )
            yield from self._reject_or_retry(sent, crash, is_worker_suspect=False)
        else:
            # An earlier upload may have broken the worker: try this one once more before it is rejected.
            self._retries.append((sent.jobs, True))

    def _replace(self, worker: Worker) -> None:
        """Stops a worker and queues its unfinished jobs for another one."""
        self._retries.extend((sent.jobs, sent.died_before) for sent in worker.queue)
        self._stop(worker)

    def _stop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.channel)
        worker.queue.clear()
        worker.stop()

"""Extraction: uploads in, changed rows out, by a pool of sandboxed processes that read the hostile files for us.

This process never opens an uploaded database. What a worker hands back is checked before it is used: the worker has held
hostile bytes. The child's side is `worker.py`; this is its only user.
"""

import contextlib
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType

import pyarrow as pa

import akosha_assets
from akosha_assets.lake.errors import UploadRejected, WorkerUnavailable
from akosha_assets.lake.ingestion.differences import KNOWN_SCHEMA, SEEN_SCHEMA, microseconds
from akosha_assets.lake.ingestion.limits import Limits
from akosha_assets.lake.ingestion.results import Extraction, read_answer
from akosha_assets.lake.ingestion.scratch import Scratch
from akosha_assets.lake.settings import LakeSettings

__all__ = ["KNOWN_SCHEMA", "PARSER_VERSION", "SEEN_SCHEMA", "Extraction", "ExtractionJob", "ExtractionPool", "SourceFile"]

# Raised when the same upload would give other rows than before.
PARSER_VERSION = 1

START_SECONDS = 60
# Between the worker's own limit on processor time and our patience with its wall clock.
GRACE_SECONDS = 5
# What a worker writes to its standard error, for the log when it dies.
SAID = "stderr"
QUEUED_PER_WORKER = 2
UPLOADS_PER_WORKER = 2000
MESSAGE_BYTES = 64 * 1024

_BOOT = "import json, sys; sys.path[:0] = json.loads(sys.argv[3]); from akosha_assets.lake.ingestion.worker import main; sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One file of an upload, already fetched to `path`, gzip or raw as it lay in the inbox."""

    name: str
    key: str
    etag: str
    path: Path


@dataclass(frozen=True)
class ExtractionJob:
    """One upload to read. `known`: what is known of its system, in KNOWN_SCHEMA; `ref` is the caller's own."""

    ref: int
    system_id: str
    snapshot_at: datetime
    arrived_at: datetime
    files: tuple[SourceFile, ...]
    known: pa.Table


@dataclass(frozen=True)
class _Sent:
    job: ExtractionJob
    result: str
    died_before: bool


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    folders: list[Path]
    level: str
    queue: deque["_Sent"] = field(default_factory=deque)
    served: int = 0
    head_since: float = 0.0


class ExtractionPool:
    """Long-lived worker processes; a context manager. Not for use by several threads at once."""

    def __init__(self, settings: LakeSettings):
        self._settings = settings
        self._limits = Limits(
            max_raw_bytes=settings.upload_max_raw_bytes,
            max_rows=settings.upload_max_rows,
            max_columns=settings.upload_max_columns,
            max_field_bytes=settings.upload_max_field_bytes,
            seconds=settings.upload_seconds,
            memory_bytes=settings.worker_memory_bytes,
            vectors=bool(settings.uploaded_vector_space),
        )
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._sequence = 0
        self._scratch: Scratch | None = None
        self._level: str | None = None

    def __enter__(self) -> "ExtractionPool":
        self._scratch = Scratch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._workers:
            self._stop(self._workers[-1])
        self._selector.close()
        if self._scratch:
            self._scratch.remove()

    def extract(self, jobs: Iterable[ExtractionJob]) -> Iterator[tuple[ExtractionJob, Extraction | UploadRejected]]:
        """Each job with its outcome, as they finish. Jobs are pulled as workers take them, two ahead for each.

        Raises: WorkerUnavailable when no worker can be started.
        """
        source = iter(jobs)
        exhausted = False
        again: deque[tuple[ExtractionJob, bool]] = deque()
        try:
            while True:
                worker = self._least_loaded()
                if worker is not None and (again or not exhausted):
                    job, died_before = again.popleft() if again else (next(source, None), False)
                    if job is None:
                        exhausted = True
                    else:
                        self._send(worker, job, died_before)
                elif not any(one.queue for one in self._workers):
                    return
                waiting = worker is None or (exhausted and not again)
                yield from self._collect(again, wait=waiting)
        finally:
            for worker in [one for one in self._workers if one.queue]:
                self._stop(worker)

    def _least_loaded(self) -> _Worker | None:
        """A worker that can take another job; started if fewer run than may. None when all are full."""
        free = [worker for worker in self._workers if len(worker.queue) < QUEUED_PER_WORKER and worker.served < UPLOADS_PER_WORKER]
        best = min(free, key=lambda worker: len(worker.queue), default=None)
        if (best is None or best.queue) and len(self._workers) < self._settings.workers:
            return self._start()
        return best

    def _start(self) -> _Worker:
        if self._scratch is None:
            raise RuntimeError("ExtractionPool is used outside its with block")
        folders = self._scratch.worker_folders()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        start = {"folders": [str(folder) for folder in folders], "limits": asdict(self._limits), "parser_version": PARSER_VERSION}
        paths = [str(Path(akosha_assets.__file__).parents[1]), *(entry for entry in sys.path if entry)]
        with theirs, (folders[-1] / SAID).open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(theirs.fileno()), json.dumps(start), json.dumps(paths)],
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                cwd=folders[0],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        worker = _Worker(process, ours, folders, "")
        self._workers.append(worker)
        ours.settimeout(START_SECONDS)
        try:
            answer = ours.recv(MESSAGE_BYTES)
        except TimeoutError:
            answer = b""
        if not answer:
            said_last = _said(worker)
            self._stop(worker)
            raise WorkerUnavailable(f"an extraction worker did not start within {START_SECONDS} s; it said: {said_last or 'nothing'}")
        ours.settimeout(START_SECONDS)
        worker.level = str(json.loads(answer)["ready"])
        if self._level is None:
            self._level = worker.level
            if worker.level == "limits":
                logger.warning(
                    "this kernel has no Landlock: extraction workers are held by resource limits and DuckDB's own switches alone"
                )
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _stop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
        worker.process.kill()
        worker.process.wait()
        for folder in worker.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _send(self, worker: _Worker, job: ExtractionJob, died_before: bool) -> None:
        self._sequence += 1
        result = f"result-{self._sequence}"
        request = {
            "files": [[file.name, file.key, file.etag] for file in job.files],
            "snapshot_us": microseconds(job.snapshot_at),
            "known": bool(job.known.num_rows),
            "result": result,
        }
        descriptors: list[int] = []
        try:
            for file in job.files:
                descriptors.append(os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
            if job.known.num_rows:
                descriptors.append(self._written(job.known))
            if not worker.queue:
                worker.head_since = monotonic()
            worker.queue.append(_Sent(job, result, died_before))
            # A worker that died meanwhile is found by the next look at its channel.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(worker.channel, [json.dumps(request).encode()], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _written(self, known: pa.Table) -> int:
        """A descriptor of an unnamed file that holds `known` as an Arrow stream."""
        assert self._scratch is not None
        with tempfile.TemporaryFile(dir=self._scratch.memory) as file:
            with pa.ipc.new_stream(file, KNOWN_SCHEMA) as stream:
                stream.write_table(known.cast(KNOWN_SCHEMA))
            file.flush()
            file.seek(0)
            return os.dup(file.fileno())

    def _collect(
        self, again: deque[tuple[ExtractionJob, bool]], *, wait: bool
    ) -> Iterator[tuple[ExtractionJob, Extraction | UploadRejected]]:
        patience = self._limits.seconds + GRACE_SECONDS
        deadlines = [worker.head_since + patience for worker in self._workers if worker.queue]
        timeout = max(0.0, min(deadlines) - monotonic()) if wait and deadlines else 0
        for key, _ in self._selector.select(timeout):
            yield from self._receive(key.data, again)
        for worker in [one for one in self._workers if one.queue and monotonic() > one.head_since + patience]:
            sent = worker.queue.popleft()
            self._give_up(worker, again)
            yield sent.job, UploadRejected("worker_timeout", f"not read within {self._limits.seconds} s")

    def _receive(
        self, worker: _Worker, again: deque[tuple[ExtractionJob, bool]]
    ) -> Iterator[tuple[ExtractionJob, Extraction | UploadRejected]]:
        try:
            message = worker.channel.recv(MESSAGE_BYTES)
        except ConnectionResetError:
            message = b""
        if not message:
            yield from self._died(worker, again)
            return
        sent = worker.queue.popleft()
        worker.head_since, worker.served = monotonic(), worker.served + 1
        outcome, healthy = read_answer(message, worker.folders, sent.result, sent.job.ref)
        if not healthy or (worker.served >= UPLOADS_PER_WORKER and not worker.queue):
            self._give_up(worker, again)
        yield sent.job, outcome

    def _died(
        self, worker: _Worker, again: deque[tuple[ExtractionJob, bool]]
    ) -> Iterator[tuple[ExtractionJob, Extraction | UploadRejected]]:
        worker.process.wait()
        code = worker.process.returncode
        logger.warning("an extraction worker died", extra={"code": code, "said": _said(worker)})
        sent = worker.queue.popleft() if worker.queue else None
        self._give_up(worker, again)
        if sent is None:
            return
        if code == -signal.SIGXCPU:
            yield sent.job, UploadRejected("worker_timeout", f"more than {self._limits.seconds} s of processor time")
        elif sent.died_before:
            yield sent.job, UploadRejected("worker_crashed", f"two workers died while they read it; the last one with exit code {code}")
        else:
            # An earlier upload may have left the worker broken: this one is tried again before it is blamed.
            again.append((sent.job, True))

    def _give_up(self, worker: _Worker, again: deque[tuple[ExtractionJob, bool]]) -> None:
        """Ends a worker; what it had not begun is given to another."""
        again.extend((sent.job, sent.died_before) for sent in worker.queue)
        worker.queue.clear()
        self._stop(worker)


def _said(worker: _Worker) -> str:
    path = worker.folders[-1] / SAID
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        return file.read().decode("utf-8", "replace")

"""The parent's handle of one extraction worker: start, send, receive, stop. The worker runs `worker_main.py`."""

import contextlib
import json
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

import pyarrow as pa

import akosha_assets
from akosha_assets.lake.errors import WorkerUnavailable
from akosha_assets.lake.ingestion.extraction.protocol import ExtractionJob
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA, microseconds
from akosha_assets.lake.ingestion.source.limits import Limits

START_SECONDS = 60
# Added to the limit on processor time, which the worker enforces itself, before the parent stops waiting.
GRACE_SECONDS = 5
MESSAGE_BYTES = 64 * 1024
# A worker that retains more than this fraction (1 / n) of its memory limit between uploads is replaced.
RETAINED_FRACTION = 4
# The file with the standard error of a worker, and how much of its end is logged when the worker dies.
STDERR_FILE, STDERR_BYTES = "stderr", 2000

_BOOT = """import json, sys
sys.path[:0] = json.loads(sys.argv[3])
from akosha_assets.lake.ingestion.extraction.worker_main import main
sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))"""
# Threads, their arenas and a second allocator would only reserve address space and touch fresh pages.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """A group of jobs sent to a worker. `died_before`: a worker has already died on them."""

    jobs: tuple[ExtractionJob, ...]
    result: str
    died_before: bool


@dataclass
class Worker:
    """A running child; `level` is empty until it has reported that it is ready."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    folders: list[Path]
    limits: Limits
    queue: deque[Sent] = field(default_factory=deque)
    served: int = 0
    level: str = ""
    since: float = field(default_factory=monotonic)
    idle_bytes: int = 0

    @staticmethod
    def start(folders: list[Path], limits: Limits, parser_version: int) -> "Worker":
        """Starts a child. It accepts jobs at once."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        start = {
            "folders": [str(folder) for folder in folders],
            "limits": asdict(limits),
            "parser_version": parser_version,
        }
        paths = [str(Path(akosha_assets.__file__).parents[1]), *(entry for entry in sys.path if entry)]
        with theirs, (folders[-1] / STDERR_FILE).open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(theirs.fileno()), json.dumps(start), json.dumps(paths)],
                env=_ENVIRONMENT,
                cwd=folders[0],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        return Worker(process, ours, folders, limits)

    @property
    def deadline(self) -> float:
        """The time (of `monotonic`) at which the child must have answered or become ready."""
        return self.since + GRACE_SECONDS + (self.limits.seconds if self.level else START_SECONDS)

    def send(self, sent: Sent, scratch: Path) -> None:
        """Sends the jobs with open descriptors of their files. `receive` detects a dead child."""
        uploads = [
            {
                "files": [[file.name, file.key, file.etag] for file in job.files],
                "snapshot_us": microseconds(job.snapshot_at),
                "latest_us": microseconds(job.latest_at or job.snapshot_at),
                "known": job.known.num_rows,
            }
            for job in sent.jobs
        ]
        known = pa.concat_tables([job.known.select(KNOWN_SCHEMA.names).cast(KNOWN_SCHEMA) for job in sent.jobs])
        request = {"uploads": uploads, "result": sent.result}
        with contextlib.ExitStack() as opened:
            descriptors = []
            for file in (file for job in sent.jobs for file in job.files):
                descriptors.append(os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
                opened.callback(os.close, descriptors[-1])
            if known.num_rows:
                spooled = opened.enter_context(tempfile.TemporaryFile(dir=scratch))
                with pa.ipc.new_stream(spooled, KNOWN_SCHEMA) as stream:
                    stream.write_table(known.combine_chunks())
                spooled.seek(0)
                descriptors.append(spooled.fileno())
            if not self.queue and self.level:
                self.since = monotonic()
            self.queue.append(sent)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self.channel, [json.dumps(request).encode()], descriptors)

    def receive(self) -> bytes:
        """Returns the next answer; empty when the child is dead."""
        with contextlib.suppress(ConnectionResetError):
            return self.channel.recv(MESSAGE_BYTES)
        # A child that died with a request unread resets the channel; its earlier answers can still be read.
        return self.channel.recv(MESSAGE_BYTES)

    def ready(self, message: bytes) -> str:
        """Parses the first message of the child and returns its sandbox level.

        Raises: WorkerUnavailable when the child ended or sent anything else.
        """
        try:
            self.level = str(json.loads(message)["ready"])
        except (ValueError, KeyError, TypeError) as error:
            code = self.process.wait() if not message else None
            raise WorkerUnavailable(
                f"an extraction worker did not start (exit code {code}); its standard error: "
                f"{self.stderr_tail() or 'empty'}"
            ) from error
        self.since, self.idle_bytes = monotonic(), self._address_space_bytes()
        return self.level

    def retains_memory(self) -> bool:
        """Whether earlier uploads left so much address space in use that the next one may run out of memory."""
        return self._address_space_bytes() - self.idle_bytes > self.limits.memory_bytes // RETAINED_FRACTION

    def _address_space_bytes(self) -> int:
        try:
            return (
                int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[0])
                * resource.getpagesize()
            )
        except (OSError, IndexError):
            # The child has ended; `receive` reports it.
            return 0

    def stderr_tail(self) -> str:
        """Returns the end of its standard error."""
        path = self.folders[-1] / STDERR_FILE
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - STDERR_BYTES))
            return file.read(STDERR_BYTES).decode("utf-8", "replace")

    def stop(self) -> None:
        """Kills the child and removes its folders."""
        self.channel.close()
        self.process.kill()
        self.process.wait()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

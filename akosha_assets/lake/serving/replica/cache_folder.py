"""The folder of one replica's cache on disk: locked against other processes, and whether it can be written.

A cache is never needed to serve: while the folder cannot be written, everything that fits stays in memory.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from akosha_assets.lake.telemetry import RateLimitedWarning

logger = logging.getLogger(__name__)

# A disk counts as writable once this many bytes could be written to it.
PROBE_BYTES = 1 << 20
# Seconds from a failed write to the next attempt; doubled with each attempt that fails.
RETRY_SECONDS, RETRY_MAX_SECONDS = 5.0, 300.0
FOLDERS_MAX = 1000


class CacheUnavailable(Exception):
    """The cache folder cannot be written now."""


class CacheFolder:
    """A folder below `root` that no other live process uses.

    `path` is the folder; it does not exist while none could be created. `reason` says why nothing can be written to it;
    None while writing works. May be used by several threads; `renew` by one.
    """

    def __init__(self, root: Path):
        self.root, self.path = root, root / "0"
        self.reason: str | None = None
        self._lock: int | None = None
        self._folder_id: tuple[int, int] | None = None
        self._retry_at, self._retry_seconds = 0.0, RETRY_SECONDS
        self._warning = RateLimitedWarning(logger, "the serving cache cannot be written; serving from memory")
        with suppress(CacheUnavailable):
            self._acquire()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raises CacheUnavailable if a write in the block fails.

        After a failure every further block raises at once, until `renew` finds the disk writable again.
        """
        if self.reason is not None:
            raise CacheUnavailable(self.reason)
        try:
            yield
        # FAISS reports a failed write as RuntimeError.
        except (OSError, RuntimeError) as error:
            raise CacheUnavailable(self.fail(error)) from error

    def fail(self, error: Exception) -> str:
        """Nothing is written until the next successful `renew`. Returns the reason."""
        self.reason = f"the serving cache {self.root} cannot be written: {error}"
        self._warning.warn(self.reason)
        self._retry_at = time.monotonic() + self._retry_seconds
        return self.reason

    def renew(self) -> bool:
        """Whether `path` is a different folder than before, or was emptied.

        Acquires a new folder if the old one was removed. Retries writing some time after a failure.
        """
        if self._lock is not None and self._is_removed():
            logger.warning("the folder of the serving cache was removed; it is built again", extra={"path": self.path})
            self.release()
            with suppress(CacheUnavailable):
                self._acquire()
            return True
        if self.reason is None or time.monotonic() < self._retry_at:
            return False
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_MAX_SECONDS)
        is_new = self._lock is None
        with suppress(CacheUnavailable):
            self._acquire() if is_new else self._probe()
            return is_new
        return False

    def release(self) -> None:
        """Another process may use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _acquire(self) -> None:
        try:
            self.path, self._lock = acquire_folder(self.root)
            self._folder_id = _file_id(self.path)
        except OSError as error:
            self.release()
            raise CacheUnavailable(self.fail(error)) from error
        self._probe()

    def diagnose(self, error: Exception) -> str:
        """As `fail`, with the error of a test write if that fails too.

        Libraries often hide the cause of a failed write.
        """
        try:
            self._write_probe()
        except OSError as cause:
            error = cause
        return self.fail(error)

    def _probe(self) -> None:
        self.reason = None
        with self.writing():
            self._write_probe()
        self._retry_seconds = RETRY_SECONDS

    def _write_probe(self) -> None:
        probe = self.path / ".probe"
        try:
            with probe.open("wb", buffering=0) as file:
                remaining = PROBE_BYTES
                while remaining:
                    remaining -= file.write(b"\0" * remaining)
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _is_removed(self) -> bool:
        assert self._lock is not None
        return os.fstat(self._lock).st_nlink == 0 or _file_id(self.path) != self._folder_id


def _file_id(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def acquire_folder(root: Path) -> tuple[Path, int]:
    """A folder below `root` that no other live process uses, and the descriptor whose lock reserves it.

    Raises: OSError if it cannot be created, or all `FOLDERS_MAX` are in use.
    """
    root.mkdir(parents=True, exist_ok=True)
    for number in range(FOLDERS_MAX):
        lock = os.open(root / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = root / str(number)
            folder.mkdir(exist_ok=True)
        except BlockingIOError:
            os.close(lock)
            continue
        except OSError:
            os.close(lock)
            raise
        return folder, lock
    raise OSError(f"{FOLDERS_MAX} processes use {root}; expected fewer, or another AKOSHA_HOME")

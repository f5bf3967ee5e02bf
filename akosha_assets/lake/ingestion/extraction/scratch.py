"""Folders to fetch to and to unpack in, the latter in memory where there is room. A dead owner's are removed by the
next one.

An owner is alive as long as it holds the lock on the file beside its folder; the kernel lets go of it with the process.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "akosha-extraction-"
MEMORY = Path("/dev/shm")
MEMORY_FREE_BYTES = 2 * 1024**3
FULL_BYTES = 64 * 1024**2


class Scratch:
    """Folders of one pool. `memory` may be the same as `disk`."""

    def __init__(self) -> None:
        disk = Path(tempfile.gettempdir())
        roots = [disk]
        if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES:
            roots = [MEMORY, disk]
        self._workers = 0
        self._owned: list[tuple[int, Path, Path]] = []
        for root in roots:
            _remove_abandoned(root)
            self._owned.append(_own(root))
        self.memory, self.disk = self._owned[0][2], self._owned[-1][2]

    def find_full(self) -> str | None:
        """Which file system that workers unpack to has no room left, and how much it has; None where all have."""
        for _, _, folder in self._owned:
            if (free := shutil.disk_usage(folder).free) < FULL_BYTES:
                return f"{folder.parent} has {free:,} bytes free, and reading uploads needs more than {FULL_BYTES:,}"
        return None

    def worker_folders(self) -> list[Path]:
        """New empty folders for one worker, the one in memory first."""
        self._workers += 1
        folders = [folder / f"worker-{self._workers}" for _, _, folder in self._owned]
        for folder in folders:
            folder.mkdir(mode=0o700)
        return folders

    def remove(self) -> None:
        """Nothing of this pool is left on disk."""
        for owned in self._owned:
            _give_up(*owned)
        self._owned.clear()


@contextmanager
def spool() -> Iterator[Path]:
    """A folder on disk for what one run fetches; gone afterwards."""
    disk = Path(tempfile.gettempdir())
    _remove_abandoned(disk)
    owned = _own(disk)
    try:
        yield owned[2]
    finally:
        _give_up(*owned)


def _give_up(descriptor: int, lock: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
    os.close(descriptor)


def _own(root: Path) -> tuple[int, Path, Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        lock = folder.with_name(folder.name + ".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another owner may have taken the lock for abandoned before we held it.
        if lock.exists() and lock.stat().st_ino == os.fstat(descriptor).st_ino and folder.exists():
            return descriptor, lock, folder
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    """What dead owners of this account left is gone. Anything else of such a name is left alone: whoever shares the
    folder may make it.
    """
    for lock in root.glob(f"{PREFIX}*.lock"):
        try:
            _remove_if_abandoned(lock)
        except OSError as error:
            logger.warning("a lock beside extraction folders is left alone: %s", error)


def _remove_if_abandoned(lock: Path) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        # Its owner lives.
        return
    finally:
        os.close(descriptor)

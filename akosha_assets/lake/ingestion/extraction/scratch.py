"""Temporary folders for downloads and for unpacking. The latter are in memory if there is space.

The owner of a folder locks a file beside it; the kernel releases the lock when the process ends. The next owner removes
the folders of dead owners.
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
        self._folders: list[tuple[int, Path, Path]] = []
        for root in roots:
            _remove_abandoned(root)
            self._folders.append(_create_folder(root))
        self.memory, self.disk = self._folders[0][2], self._folders[-1][2]

    def find_full(self) -> str | None:
        """Returns which file system for unpacking is full and how much is free; None if none is full."""
        for _, _, folder in self._folders:
            if (free := shutil.disk_usage(folder).free) < FULL_BYTES:
                return f"{folder.parent} has {free:,} bytes free, and reading uploads needs more than {FULL_BYTES:,}"
        return None

    def worker_folders(self) -> list[Path]:
        """Creates empty folders for one worker, the one in memory first."""
        self._workers += 1
        folders = [folder / f"worker-{self._workers}" for _, _, folder in self._folders]
        for folder in folders:
            folder.mkdir(mode=0o700)
        return folders

    def remove(self) -> None:
        """Removes all folders of this pool."""
        for owned in self._folders:
            _remove_folder(*owned)
        self._folders.clear()


@contextmanager
def spool() -> Iterator[Path]:
    """A folder on disk for the downloads of one run; removed at the end of the block."""
    disk = Path(tempfile.gettempdir())
    _remove_abandoned(disk)
    owned = _create_folder(disk)
    try:
        yield owned[2]
    finally:
        _remove_folder(*owned)


def _remove_folder(descriptor: int, lock: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
    os.close(descriptor)


def _create_folder(root: Path) -> tuple[int, Path, Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        lock = folder.with_name(folder.name + ".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another owner may have removed the file as abandoned before it was locked.
        if lock.exists() and lock.stat().st_ino == os.fstat(descriptor).st_ino and folder.exists():
            return descriptor, lock, folder
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    """Removes the folders of dead owners of this account.

    Other files with such names may belong to other accounts that share `root`; they are not touched.
    """
    for lock in root.glob(f"{PREFIX}*.lock"):
        try:
            _remove_if_abandoned(lock)
        except OSError as error:
            logger.warning("a lock beside extraction folders was skipped: %s", error)


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
        # Its owner is alive.
        return
    finally:
        os.close(descriptor)

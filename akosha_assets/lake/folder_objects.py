"""Objects in a folder: the verbs of `objects.py` with plain file calls that never follow a symbolic link.

Each folder of a path is opened relative to the one above it. Whoever may write below the root can therefore neither
redirect a read or a removal to a place outside of it nor stop a listing: an entry that cannot be an object is skipped.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected

CHUNK_BYTES = 1024 * 1024
# A key of S3 has at most 1,024 bytes. No client uploads longer keys or deeper folders.
KEY_BYTES_MAX = 1024
DEPTH_MAX = 32
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Errors that are caused by the kind of an entry. Any other error is a failure of the file system or of permissions.
ENTRY_ERRORS = {
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENXIO,
    errno.ENODEV,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
}

OnSkipped = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Object:
    """One object as a listing shows it. `etag` changes whenever its bytes do."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True)
class FolderObjects:
    """The files below `root`; keys are paths relative to it."""

    root: Path

    def list(self, prefix: str, after: str, on_skipped: OnSkipped) -> Iterator[Object]:
        """Yields the files under the folder `prefix` in key order, only those after the key `after`. `on_skipped` gets
        the key of each entry that cannot be listed and the reason.

        Raises:
            StoreUnavailable: the root or the folder `prefix` cannot be read.
        """
        try:
            top = self._open_folder(prefix)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno in ENTRY_ERRORS:
                on_skipped(prefix, f"not a plain folder in plain folders: {error.strerror}")
                return
            raise StoreUnavailable(str(self.root), f"{prefix}: {error.strerror}") from error
        walk = _Walk(after, on_skipped)
        try:
            yield from walk.files(top, prefix)
        except OSError as error:
            raise StoreUnavailable(str(self.root), f"{prefix}: {error.strerror}") from error
        finally:
            walk.close()

    def head(self, key: str) -> Object | None:
        """Returns what a listing would show of `key`; None if it does not exist."""
        try:
            with self._folder_of(key) as (descriptor, name):
                return describe(key, os.stat(name, dir_fd=descriptor, follow_symlinks=False))
        except OSError as error:
            if error.errno == errno.ENOENT or error.errno in ENTRY_ERRORS:
                return None
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error

    def stream(self, key: str) -> Iterator[bytes]:
        """Yields the bytes of `key` in chunks.

        Raises:
            UploadRejected: the file is missing, or not a plain file in plain folders.
            StoreUnavailable: the root does not exist, or a read failed.
        """
        try:
            if not self.root.is_dir():
                raise StoreUnavailable(str(self.root), "there is no such folder")
            with self._folder_of(key) as (descriptor, name):
                file = os.open(name, OPEN_FILE, dir_fd=descriptor)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise UploadRejected("file_not_regular", f"{key} is not a plain file")
                while chunk := os.read(file, CHUNK_BYTES):
                    yield chunk
            finally:
                os.close(file)
        except FileNotFoundError as error:
            raise UploadRejected("file_missing", f"{key} does not exist in the inbox") from error
        except OSError as error:
            if error.errno in ENTRY_ERRORS:
                raise UploadRejected(
                    "file_not_regular", f"{key} is not a plain file in plain folders: {error.strerror}"
                ) from error
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error
        except ValueError as error:
            raise UploadRejected("upload_id_invalid", f"{key!r} cannot be the name of a file: {error}") from error

    def put(self, key: str, data: bytes) -> None:
        """Writes `data` as `key`. A reader sees all of it or nothing."""
        path = self.root / key
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(data)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error

    def delete(self, key: str) -> None:
        """Removes `key` if it exists. A symbolic link is removed itself; nothing is removed through one."""
        try:
            with self._folder_of(key) as (descriptor, name):
                os.unlink(name, dir_fd=descriptor)
        except OSError as error:
            if error.errno == errno.ENOENT or error.errno in ENTRY_ERRORS:
                return
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error

    @contextmanager
    def _folder_of(self, key: str) -> Iterator[tuple[int, str]]:
        folder, _, name = key.rpartition("/")
        descriptor = self._open_folder(folder)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _open_folder(self, prefix: str) -> int:
        """Returns a descriptor of the folder `prefix`. The root may be a symbolic link, which the operator chose; no
        folder below it may be one.
        """
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in filter(None, prefix.split("/")):
            try:
                if part == "..":
                    raise OSError(errno.EINVAL, "a key has no parent folder")
                below = os.open(part, OPEN_FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor


@dataclass(frozen=True)
class _OpenFolder:
    """A folder that is being listed: its descriptor, its key and its remaining entries."""

    descriptor: int
    key: str
    entries: "Iterator[os.DirEntry[str]]"


class _Walk:
    """Lists folders depth first. Each is opened relative to the one above it; at most DEPTH_MAX are open."""

    def __init__(self, after: str, on_skipped: OnSkipped):
        self._after, self._on_skipped = after, on_skipped
        self._open: list[_OpenFolder] = []

    def files(self, top: int, prefix: str) -> Iterator[Object]:
        """Yields the files below the descriptor `top` of the folder `prefix`. Raises: OSError if it is unreadable."""
        self._push(top, prefix)
        while self._open:
            folder = self._open[-1]
            entry = next(folder.entries, None)
            if entry is None:
                os.close(self._open.pop().descriptor)
                continue
            key = f"{folder.key}/{entry.name}" if folder.key else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    self._descend(folder, entry.name, key)
                elif key > self._after and not entry.name.endswith(".part"):
                    yield describe(key, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._on_skipped(key, error.strerror or str(error))

    def close(self) -> None:
        """Closes every folder that is still open."""
        while self._open:
            os.close(self._open.pop().descriptor)

    def _descend(self, folder: _OpenFolder, name: str, key: str) -> None:
        if self._after and self._after > key + "/\U0010ffff":
            # All its keys come before `after`.
            return
        if reason := _too_deep(key, len(self._open)):
            self._on_skipped(key, reason)
            return
        self._push(os.open(name, OPEN_FOLDER, dir_fd=folder.descriptor), key)

    def _push(self, descriptor: int, key: str) -> None:
        try:
            entries = _sorted_entries(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._open.append(_OpenFolder(descriptor, key, entries))


def _sorted_entries(descriptor: int) -> "Iterator[os.DirEntry[str]]":
    # A folder sorts as if its name ended in a slash, as keys in a bucket do.
    with os.scandir(descriptor) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False)))


def _too_deep(key: str, depth: int) -> str:
    """Why the folder `key` is not listed; empty for one that is."""
    if len(os.fsencode(key)) > KEY_BYTES_MAX:
        return f"its path is longer than {KEY_BYTES_MAX} bytes"
    return f"it is more than {DEPTH_MAX} folders deep" if depth >= DEPTH_MAX else ""


def describe(key: str, status: os.stat_result) -> Object:
    """Returns a file as a listing shows it. Anything but a plain file has the etag `not-regular`. A time outside of
    1970 to 9999 is clamped.
    """
    regular = stat.S_ISREG(status.st_mode)
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}" if regular else "not-regular"
    seconds = min(max(status.st_mtime, EPOCH.timestamp()), LATEST.timestamp())
    return Object(key, status.st_size, etag, datetime.fromtimestamp(seconds, UTC))

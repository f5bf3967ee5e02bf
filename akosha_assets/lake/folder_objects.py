"""Objects in a folder: the verbs of `objects.py` with plain file calls that never follow a symbolic link.

Every folder on the way is opened by itself, relative to the one above it, so that whoever may write below the folder
can neither lead a read or a removal out of it nor stop a listing: an entry that cannot be an object is skipped.
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
# A key of S3 has at most 1,024 bytes; what is longer or deeper in a folder is nothing that a client uploads.
KEY_BYTES_MAX = 1024
DEPTH_MAX = 32
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Errors that say what an entry is. All others say that the file system or its permissions fail.
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
        """Files under the folder `prefix` in key order, those after the key `after` only. `on_skipped` gets the key of
        each entry that cannot be listed and why.

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
        levels: list[tuple[int, str, Iterator[os.DirEntry[str]]]] = [(top, prefix, iter(()))]
        try:
            levels[0] = (top, prefix, _entries(top))
            while levels:
                descriptor, folder, entries = levels[-1]
                entry = next(entries, None)
                if entry is None:
                    levels.pop()
                    os.close(descriptor)
                    continue
                key = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        if key > after and not entry.name.endswith(".part"):
                            yield describe(key, entry.stat(follow_symlinks=False))
                    elif after and after > key + "/\U0010ffff":
                        # It ends before `after`.
                        continue
                    elif reason := _too_deep(key, len(levels)):
                        on_skipped(key, reason)
                    else:
                        below = os.open(entry.name, OPEN_FOLDER, dir_fd=descriptor)
                        levels.append((below, key, iter(())))
                        levels[-1] = (below, key, _entries(below))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    on_skipped(key, error.strerror or str(error))
        except OSError as error:
            raise StoreUnavailable(str(self.root), f"{prefix}: {error.strerror}") from error
        finally:
            for descriptor, _, _ in levels:
                os.close(descriptor)

    def head(self, key: str) -> Object | None:
        """What a listing would show of `key`; None where it is not."""
        try:
            with self._folder_of(key) as (descriptor, name):
                return describe(key, os.stat(name, dir_fd=descriptor, follow_symlinks=False))
        except OSError as error:
            if error.errno == errno.ENOENT or error.errno in ENTRY_ERRORS:
                return None
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error

    def stream(self, key: str) -> Iterator[bytes]:
        """The bytes of `key` in chunks.

        Raises:
            UploadRejected: it is missing, or not a plain file in plain folders.
            StoreUnavailable: the root is gone, or a read failed.
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
            raise UploadRejected("file_missing", f"{key} does not lie in the inbox") from error
        except OSError as error:
            if error.errno in ENTRY_ERRORS:
                raise UploadRejected(
                    "file_not_regular", f"{key} is not a plain file in plain folders: {error.strerror}"
                ) from error
            raise StoreUnavailable(str(self.root), f"{key}: {error.strerror}") from error
        except ValueError as error:
            raise UploadRejected("upload_id_invalid", f"{key!r} is not a name that a file can have: {error}") from error

    def put(self, key: str, data: bytes) -> None:
        """`key` holds `data`; a reader sees the whole of it or nothing."""
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
        """`key` is not there. A symbolic link is removed itself; nothing is removed through one."""
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
        """A descriptor of the folder `prefix`. The root may be a symbolic link, whose choice is the operator's; nothing
        below it.
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


def _entries(descriptor: int) -> "Iterator[os.DirEntry[str]]":
    # A folder sorts as if its name ended in a slash, as keys in a bucket do.
    with os.scandir(descriptor) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False)))


def _too_deep(key: str, depth: int) -> str:
    if len(os.fsencode(key)) > KEY_BYTES_MAX:
        return f"its path is longer than {KEY_BYTES_MAX} bytes"
    return f"it is more than {DEPTH_MAX} folders deep" if depth >= DEPTH_MAX else ""


def describe(key: str, status: os.stat_result) -> Object:
    """A file as a listing shows it. What is not a plain file has the etag `not-regular`; a time outside 1970 to 9999 is
    clamped.
    """
    regular = stat.S_ISREG(status.st_mode)
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}" if regular else "not-regular"
    seconds = min(max(status.st_mtime, EPOCH.timestamp()), LATEST.timestamp())
    return Object(key, status.st_size, etag, datetime.fromtimestamp(seconds, UTC))

"""Object-store verbs for the inbox and for backups: list, fetch, put, delete. The only importer of `obstore`.

A folder is read with plain file calls instead: it may hold symbolic links, which must never be followed, and a
listing that reads directories is several times faster. A bucket of S3 is listed with boto3: obstore refuses a whole
listing when one key in it has `..` for a folder, and anyone who may upload could put such a key there. Delta tables do
their own object access, see `tables.py`.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected

RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Object:
    """One object as a listing shows it. `etag` changes whenever its bytes do."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True)
class ObjectStore:
    """The objects under one URL; keys are relative to it."""

    url: str

    @cached_property
    def folder(self) -> Path | None:
        """The folder behind a `file://` URL, else None."""
        return Path(unquote(urlsplit(self.url).path)) if self.url.startswith("file:") else None

    @cached_property
    def _remote(self) -> Any:
        options: dict[str, Any] = {"timeout": "60s", "connect_timeout": "5s"}
        kwargs: dict[str, Any] = {}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if self.url.startswith("s3:") and endpoint:
            kwargs["endpoint"] = endpoint
            options["allow_http"] = endpoint.startswith("http:")
        kwargs |= {"client_options": options, "retry_config": RETRY}
        return from_url(self.url, **kwargs)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Object]:
        """Objects whose key starts with the folder `prefix`, in key order, those after the key `after` only.

        In a folder, files that are not regular (symbolic links, pipes) are listed with the etag `not-regular`.
        """
        if self.folder is not None:
            yield from _walk(self.folder, prefix.strip("/"), after)
            return
        if self.url.startswith("s3:"):
            yield from self._list_s3(prefix, after)
            return
        try:
            for page in obstore.list(self._remote, prefix=prefix or None, offset=after or None, chunk_size=1000):
                for item in page:
                    yield Object(item["path"], item["size"], (item["e_tag"] or "").strip('"'), item["last_modified"])
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def _list_s3(self, prefix: str, after: str) -> Iterator[Object]:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        place = urlsplit(self.url)
        root = f"{place.path.strip('/')}/" if place.path.strip("/") else ""
        wanted = {"Bucket": place.netloc, "Prefix": root + prefix + "/" * bool(prefix), "StartAfter": root + after if after else ""}
        try:
            for page in boto3.client("s3").get_paginator("list_objects_v2").paginate(**{k: v for k, v in wanted.items() if v}):
                for item in page.get("Contents", ()):
                    yield Object(item["Key"].removeprefix(root), item["Size"], item["ETag"].strip('"'), item["LastModified"])
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def head(self, key: str) -> Object | None:
        """What a listing would show of `key`, or None where it is not."""
        if self.folder is not None:
            path = self.folder / key
            return _described(key, path.lstat()) if path.is_symlink() or path.exists() else None
        try:
            item = obstore.head(self._remote, key)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error
        return Object(item["path"], item["size"], (item["e_tag"] or "").strip('"'), item["last_modified"])

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """The bytes of `key`.

        Raises:
            UploadRejected: it is missing, not a regular file, or larger than `max_bytes`.
            StoreUnavailable: the store did not answer.
        """
        return b"".join(self.stream(key, max_bytes=max_bytes))

    def fetch(self, key: str, to: Path, *, max_bytes: int) -> str:
        """`to` holds the bytes of `key`; returns their SHA-256 in hex. Raises as `read`."""
        digest = hashlib.sha256()
        with to.open("wb") as file:
            for chunk in self.stream(key, max_bytes=max_bytes):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def stream(self, key: str, *, max_bytes: int) -> Iterator[bytes]:
        """The bytes of `key` in chunks; stops with an error at the first byte beyond `max_bytes`. Raises as `read`."""
        total = 0
        for chunk in self._file_chunks(key) if self.folder is not None else self._remote_chunks(key):
            total += len(chunk)
            if total > max_bytes:
                raise UploadRejected(
                    "file_too_large", f"{key} is larger than {max_bytes} bytes; upload less or raise AKOSHA_UPLOAD_MAX_BYTES"
                )
            yield chunk

    def put(self, key: str, data: bytes) -> None:
        """`key` holds `data`; a reader sees the whole of it or nothing."""
        if self.folder is not None:
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            part.write_bytes(data)
            part.replace(path)
            return
        try:
            obstore.put(self._remote, key, data)
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def delete(self, key: str) -> None:
        """`key` is not there."""
        if self.folder is not None:
            (self.folder / key).unlink(missing_ok=True)
            return
        try:
            obstore.delete(self._remote, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def _file_chunks(self, key: str) -> Iterator[bytes]:
        assert self.folder is not None
        try:
            directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise UploadRejected("file_missing", f"{key}: there is no folder {self.folder}") from error
        try:
            # One step at a time, so that no folder on the way may be a symbolic link either.
            for part in key.split("/")[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = below
            file = os.open(key.split("/")[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except FileNotFoundError as error:
            raise UploadRejected("file_missing", f"{key} does not lie in the inbox") from error
        except OSError as error:
            raise UploadRejected("file_not_regular", f"{key} is not a plain file in plain folders: {error.strerror}") from error
        finally:
            os.close(directory)
        with os.fdopen(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UploadRejected("file_not_regular", f"{key} is not a plain file")
            while chunk := opened.read(CHUNK_BYTES):
                yield chunk

    def _remote_chunks(self, key: str) -> Iterator[bytes]:
        try:
            for chunk in obstore.get(self._remote, key).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise UploadRejected("file_missing", f"{key} does not lie in the inbox") from error
        except ValueError as error:
            raise UploadRejected("upload_id_invalid", f"{key!r} is not a key that can be fetched: {error}") from error
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error


def _walk(folder: Path, prefix: str, after: str) -> Iterator[Object]:
    """Files under `prefix` in key order. A folder that ends before `after` is not read."""
    try:
        # A folder sorts as if its name ended in a slash, as keys in a bucket do.
        entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        key = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir(follow_symlinks=False):
            if after and after > key + "/\U0010ffff":
                continue
            yield from _walk(folder, key, after)
        elif key > after and not entry.name.endswith(".part"):
            try:
                yield _described(key, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue


def _described(key: str, status: os.stat_result) -> Object:
    regular = stat.S_ISREG(status.st_mode)
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}" if regular else "not-regular"
    return Object(key, status.st_size, etag, datetime.fromtimestamp(status.st_mtime, UTC))

"""Access to an object store: list, head, read, put, delete. Used for the inbox and for backups. The only importer of
`obstore`.

Folders are read with plain file calls (`folder_objects.py`): symbolic links in them are never followed, and a listing
is several times faster. S3 buckets are listed with boto3: obstore fails the whole listing if one key has a folder
`..`, and anyone who may upload can create such a key. Delta tables access their objects themselves, see `tables.py`.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from akosha_assets.lake.aws_clients import aws_client, aws_errors
from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.folder_objects import CHUNK_BYTES, FolderObjects, Object, OnSkipped

__all__ = ["Object", "ObjectStore", "log_skipped"]

logger = logging.getLogger(__name__)

RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


def log_skipped(key: str, reason: str) -> None:
    """Logs an entry that cannot be listed."""
    logger.warning("skipped %s: %s", ascii(key[:200]), reason)


@dataclass(frozen=True)
class ObjectStore:
    """The objects under one URL. Keys are relative to it."""

    url: str

    @cached_property
    def folder(self) -> Path | None:
        """The folder behind a `file://` URL, else None."""
        return Path(unquote(urlsplit(self.url).path)) if self.url.startswith("file:") else None

    @cached_property
    def _files(self) -> FolderObjects | None:
        return FolderObjects(self.folder) if self.folder is not None else None

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

    def list(self, prefix: str = "", *, after: str = "", on_skipped: OnSkipped = log_skipped) -> Iterator[Object]:
        """Yields the objects under the folder `prefix` in key order, only those after the key `after`.

        In a folder, files that are not regular (symbolic links, pipes) are listed with the etag `not-regular`.
        `on_skipped` gets the key and the reason of each entry that cannot be listed (too deep, too long, unreadable).

        Raises:
            StoreUnavailable: the store did not answer.
        """
        if self._files is not None:
            yield from self._files.list(prefix.strip("/"), after, on_skipped)
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
        url = urlsplit(self.url)
        root = f"{url.path.strip('/')}/" if url.path.strip("/") else ""
        request = {
            "Bucket": url.netloc,
            "Prefix": root + prefix + "/" * bool(prefix),
            "StartAfter": root + after if after else "",
        }
        with aws_errors(self.url):
            paginator = aws_client("s3").get_paginator("list_objects_v2")
            for page in paginator.paginate(**{name: value for name, value in request.items() if value}):
                for item in page.get("Contents", ()):
                    yield Object(
                        item["Key"].removeprefix(root), item["Size"], item["ETag"].strip('"'), item["LastModified"]
                    )

    def head(self, key: str) -> Object | None:
        """Returns what a listing would show of `key`; None if it does not exist."""
        if self._files is not None:
            return self._files.head(key)
        try:
            item = obstore.head(self._remote, key)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error
        return Object(item["path"], item["size"], (item["e_tag"] or "").strip('"'), item["last_modified"])

    def check_folder(self, prefix: str) -> None:
        """Checks that the store answers and, if it is a folder, that `prefix` exists in it. A bucket may be empty.

        Raises:
            StoreUnavailable: the bucket does not exist or does not answer, or the folder is missing.
        """
        if self.folder is not None and not (self.folder / prefix).is_dir():
            raise StoreUnavailable(self.url, f"it has no folder {prefix!r}; is its file system mounted?")
        next(self.list(prefix), None)

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Returns the bytes of `key`.

        Raises:
            UploadRejected: the object is missing, not a regular file, or larger than `max_bytes`.
            StoreUnavailable: the store did not answer.
        """
        return b"".join(self.stream(key, max_bytes=max_bytes))

    def fetch(self, key: str, to: Path, *, max_bytes: int) -> str:
        """Writes the bytes of `key` to the file `to`; returns their SHA-256 in hex. Raises as `read`."""
        digest = hashlib.sha256()
        with to.open("wb") as file:
            for chunk in self.stream(key, max_bytes=max_bytes):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def stream(self, key: str, *, max_bytes: int) -> Iterator[bytes]:
        """Yields the bytes of `key` in chunks; fails at the first byte beyond `max_bytes`. Raises as `read`."""
        total = 0
        for chunk in self._files.stream(key) if self._files is not None else self._remote_chunks(key):
            total += len(chunk)
            if total > max_bytes:
                raise UploadRejected(
                    "file_too_large",
                    f"{key} is larger than {max_bytes} bytes; upload less or raise AKOSHA_UPLOAD_MAX_BYTES",
                )
            yield chunk

    def put(self, key: str, data: bytes) -> None:
        """Writes `data` as `key`. A reader sees all of it or nothing."""
        if self._files is not None:
            self._files.put(key, data)
            return
        try:
            obstore.put(self._remote, key, data)
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def delete(self, key: str) -> None:
        """Removes `key` if it exists."""
        if self._files is not None:
            self._files.delete(key)
            return
        try:
            obstore.delete(self._remote, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

    def _remote_chunks(self, key: str) -> Iterator[bytes]:
        try:
            for chunk in obstore.get(self._remote, key).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise UploadRejected("file_missing", f"{key} does not exist in the inbox") from error
        except ValueError as error:
            raise UploadRejected("upload_id_invalid", f"{key!r} cannot be fetched: {error}") from error
        except (BaseError, OSError) as error:
            raise StoreUnavailable(self.url, str(error)) from error

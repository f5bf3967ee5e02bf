"""Downloads the files of claimed uploads to local disk, a few uploads ahead of the consumer.

Reads manifests and computes digests; never opens a database. A file with the digest of the system's last snapshot is
skipped, because nothing in it can be new.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.ingestion.extraction.pool import SourceFile
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.snapshot_times import arrival_time, is_near_arrival
from akosha_assets.lake.ingestion.uploads import BARE, MANIFEST, ROOT, ManifestPart, parse_manifest
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

# Concurrent downloads. They wait for the network, not for a processor core.
CONNECTIONS = 8
MANIFEST_BYTES = 1024 * 1024
GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Fetched:
    """One upload on local disk. `failure` is set if it could not be fetched.

    `digests` has all files by name, including the `skipped` ones. `bytes` counts all that was read, manifest included.
    `latest_at`: as in `ExtractionJob`.
    """

    upload: UploadRow
    files: tuple[SourceFile, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    bytes: int = 0
    flaws: dict[str, int] = field(default_factory=dict)
    failure: UploadRejected | StoreUnavailable | None = None
    latest_at: datetime | None = None

    @property
    def has_grown(self) -> bool:
        """Whether more was read than its objects had when they were listed: somebody is still writing."""
        return self.bytes > self.upload.bytes

    def discard(self) -> None:
        """Removes the local files."""
        for file in self.files:
            file.path.unlink(missing_ok=True)


def fetch_all(
    settings: LakeSettings,
    uploads: Iterable[UploadRow],
    digests_of: Callable[[str], dict[str, Any]],
    spool: Path,
) -> Iterator[Fetched]:
    """Yields every upload of `uploads` in order, with at most CONNECTIONS of them downloaded ahead.

    `digests_of` returns the files of a system's last snapshot, with their digests, by file name.
    """
    store = ObjectStore(settings.inbox())
    pending: deque[Future[Fetched]] = deque()
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch") as threads:
        try:
            for upload in uploads:
                pending.append(threads.submit(_fetch, settings, store, upload, digests_of(upload.system_id), spool))
                if len(pending) > CONNECTIONS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                if not future.cancel():
                    future.result().discard()


def _fetch(
    settings: LakeSettings, store: ObjectStore, upload: UploadRow, known: dict[str, Any], spool: Path
) -> Fetched:
    fetched = Fetched(upload)
    files = []
    try:
        names, etag = _file_names(store, upload, fetched)
        fetched.latest_at = _latest_at(store, upload)
        bytes_left = settings.upload_max_bytes
        for position, name in enumerate(names):
            key = upload.prefix if upload.layout == "bare" else f"{upload.prefix}/{name}"
            path = spool / f"{upload.id}-{position}"
            digest = _download(store, key, path, bytes_left)
            fetched.bytes += path.stat().st_size
            bytes_left -= path.stat().st_size
            fetched.digests[name] = digest
            if known.get(name, {}).get("sha256") == digest:
                fetched.skipped += 1
                path.unlink()
            else:
                files.append(SourceFile(name=name, key=key, etag=etag or digest, path=path))
                fetched.files = tuple(files)
    except (UploadRejected, StoreUnavailable) as error:
        fetched.discard()
        fetched.files, fetched.failure = (), error
    return fetched


def _latest_at(store: ObjectStore, upload: UploadRow) -> datetime:
    """Returns the snapshot's time if it is near the arrival of the upload, else the arrival."""
    if is_near_arrival(upload.snapshot_at, upload.seen_at):
        return upload.snapshot_at
    # It may have waited in the inbox until it was seen.
    found = store.head(upload.prefix if upload.layout == "bare" else f"{upload.prefix}/{MANIFEST}")
    arrived_at = arrival_time(found.modified_at if found else None, seen_at=upload.seen_at)
    return upload.snapshot_at if is_near_arrival(upload.snapshot_at, arrived_at) else arrived_at


def _file_names(store: ObjectStore, upload: UploadRow, fetched: Fetched) -> tuple[tuple[str, ...], str]:
    """Returns the file names of an upload, and the etag of a bare database; it is empty for other layouts."""
    if upload.layout == "bare":
        return (BARE,), upload.revision
    part = ManifestPart(upload.prefix, upload.system_id, upload.upload_id, upload.layout, MANIFEST, True)
    try:
        content = store.read(f"{upload.prefix}/{MANIFEST}", max_bytes=MANIFEST_BYTES)
    except UploadRejected as error:
        if error.reason == "file_missing":
            store.check_folder(ROOT)
        raise
    fetched.bytes += len(content)
    manifest = parse_manifest(content, part)
    fetched.flaws.update(manifest.flaws)
    return manifest.files, ""


def _download(store: ObjectStore, key: str, path: Path, max_bytes: int) -> str:
    """Writes the object to `path`. Returns the SHA-256 of its bytes in hex, without the time in a gzip header."""
    digest = hashlib.sha256()
    first = True
    try:
        with path.open("wb") as file:
            for chunk in store.stream(key, max_bytes=max_bytes):
                file.write(chunk)
                # Bytes 4 to 7 of a gzip header are the time of compression (RFC 1952), which differs for equal content.
                digest.update(
                    chunk[:4] + b"\0\0\0\0" + chunk[8:]
                    if first and chunk.startswith(GZIP_MAGIC) and len(chunk) >= 8
                    else chunk
                )
                first = False
    except UploadRejected:
        path.unlink(missing_ok=True)
        raise
    return digest.hexdigest()

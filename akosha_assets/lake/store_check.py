"""Finds out after a failed write whether the store failed or the rows cannot be written; Delta's error means either."""

import shutil
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.objects import ObjectStore

# A commit writes several files of a few MiB. A disk with less free space counts as full.
FREE_BYTES_MIN = 256 * 1024**2
CHECK_BYTES = b"akosha write check"


def find_failure(uri: str, data_paths: list[str]) -> str | None:
    """Returns what is wrong with the store of the table at `uri` or with its files.

    None if a small object can be written, read and removed beside the table's log, the disk has free space, and every
    file of `data_paths` exists.
    """
    path = _local_path(uri)
    store = ObjectStore(path.as_uri() if path is not None else uri)
    key = f"_delta_log/_write_check_{uuid.uuid4().hex}"
    try:
        store.put(key, CHECK_BYTES)
        found = store.read(key, max_bytes=len(CHECK_BYTES))
        store.delete(key)
    except (StoreUnavailable, UploadRejected, OSError) as error:
        return f"a small object cannot be written and read back: {error}"
    if found != CHECK_BYTES:
        return "a small object reads back with other bytes than were written"
    if path is not None and (free := shutil.disk_usage(path).free) < FREE_BYTES_MIN:
        return f"the disk is full: {free:,} bytes are free, and a commit needs up to {FREE_BYTES_MIN:,}"
    return _find_missing_file(data_paths, store)


def _find_missing_file(expected: list[str], store: ObjectStore) -> str | None:
    try:
        present = {item.key for item in store.list()}
    except StoreUnavailable as error:
        return f"its files cannot be listed: {error}"
    missing = [path for path in expected if path not in present and unquote(path) not in present]
    return f"{len(missing)} of {len(expected)} data files are missing, the first is {missing[0]}" if missing else None


def _local_path(uri: str) -> Path | None:
    if uri.startswith("file:"):
        return Path(unquote(urlsplit(uri).path))
    return Path(uri) if not urlsplit(uri).scheme else None

"""The child process that reads uploads: answers one request at a time on a socket, and writes results to files.

`pool.py` starts it, `sandbox.py` confines it. It imports no settings and no framework, so it starts fast.
"""

import gc
import json
import os
import socket
import sqlite3
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.extraction.sandbox import (
    confine,
    hardened_connection,
    limit_processor,
    limit_resources,
)
from akosha_assets.lake.ingestion.extraction.unpacking import raw_size_hint, unpack
from akosha_assets.lake.ingestion.source.change_detection import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.source.databases import File
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.snapshot_reader import SnapshotReader
from akosha_assets.lake.ingestion.source.snapshots import RetryIndividually, Snapshots, UploadFiles
from akosha_assets.lake.ingestion.source.zones import zone_table

MESSAGE_BYTES = 64 * 1024
# Files of a group of uploads, and one with the known rows.
FILES_MAX = 32
# Uploads up to this many raw bytes are unpacked in the first folder (memory), larger ones in the last (disk).
IN_MEMORY_BYTES = 256 * 1024**2
UNPACKED_SUFFIX = ".db"
# Results up to this many bytes are written to the folder with the unpacked files, larger ones to disk.
RESULT_IN_MEMORY_BYTES = 32 * 1024**2
# Batches larger than this are split before they are written, down to single rows.
WRITTEN_BYTES = 16 * 1024**2
# The largest row that is written.
ROW_MAX_BYTES = 128 * 1024**2
# Kinds, ids, hashes and days of all rows, which the parent holds in memory.
SEEN_MAX_BYTES = 250 * 1024**2

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def main(descriptor: int, start: dict[str, Any]) -> int:
    """Serves requests until the other end closes. Returns the exit code."""
    channel = socket.socket(fileno=descriptor)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    folders = [Path(folder) for folder in start["folders"]]
    limits = Limits(**start["limits"])
    with hardened_connection(folders, memory_bytes=limits.memory_bytes // 2) as connection:
        _warm_up(folders[0], SnapshotReader(connection, limits, start["parser_version"]))
    # Exempts the objects that exist now from every later garbage collection.
    gc.freeze()
    limit_resources(memory_bytes=limits.memory_bytes, file_bytes=max(limits.max_raw_bytes, limits.memory_bytes))
    level = confine(folders)
    # Connect after `confine`: threads of an earlier connection would keep their rights.
    reader = SnapshotReader(
        hardened_connection(folders, memory_bytes=limits.memory_bytes // 2), limits, start["parser_version"]
    )
    channel.send(json.dumps({"ready": level}).encode())
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, FILES_MAX)
        if not message:
            return 0
        answer, healthy = _answer(json.loads(message), descriptors, reader, folders, limits)
        channel.send(json.dumps(answer).encode())
        if not healthy:
            # Wait until the parent has read the answer and ends this process. An exit with an unread request would
            # reset the channel and discard the answer.
            while channel.recv(MESSAGE_BYTES):
                pass
            return 0


def _answer(
    request: dict[str, Any], descriptors: list[int], reader: SnapshotReader, folders: list[Path], limits: Limits
) -> tuple[dict[str, Any], bool]:
    """Returns the answer to one request, and whether this process can read another."""
    limit_processor(limits.seconds)
    try:
        return _extract(request, descriptors, reader, folders, limits), True
    except RetryIndividually as retry:
        return {"apart": str(retry)[:2000]}, True
    except UploadRejected as rejected:
        return {
            "rejected": rejected.reason,
            "message": rejected.message[:2000],
            "sample": rejected.sample[:500],
            "healthy": True,
        }, True
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        message = f"reading needs more than {limits.memory_bytes} bytes of memory: {error}"
        return {"rejected": "worker_memory", "message": message[:2000], "sample": "", "healthy": False}, False
    except (duckdb.Error, sqlite3.Error, pa.ArrowInvalid) as error:
        healthy = not isinstance(error, duckdb.InternalException | duckdb.FatalException) and reader.is_clean()
        return {
            "rejected": "database_unreadable",
            "message": f"{type(error).__name__}: {error}"[:2000],
            "sample": "",
            "healthy": healthy,
        }, healthy
    except Exception as error:  # noqa: BLE001
        # Last resort: the parent logs the traceback and starts another worker.
        message, trace = f"{type(error).__name__}: {error}"[:2000], traceback.format_exc()[-8000:]
        return {"rejected": "worker_crashed", "message": message, "sample": "", "healthy": False, "trace": trace}, False
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _extract(
    request: dict[str, Any], descriptors: list[int], reader: SnapshotReader, folders: list[Path], limits: Limits
) -> dict[str, Any]:
    started = perf_counter()
    known = KNOWN_SCHEMA.empty_table()
    if any(upload["known"] for upload in request["uploads"]):
        with os.fdopen(os.dup(descriptors[-1]), "rb") as stream:
            known = pa.ipc.open_stream(stream).read_all()
    uploaded = descriptors[: sum(len(upload["files"]) for upload in request["uploads"])]
    hints = sum(raw_size_hint(descriptor) for descriptor in uploaded)
    is_alone = len(request["uploads"]) == 1
    if hints > min(IN_MEMORY_BYTES, limits.max_raw_bytes) and not is_alone:
        raise RetryIndividually(f"{hints} bytes")
    folder = folders[0] if hints <= IN_MEMORY_BYTES else folders[-1]
    try:
        try:
            uploads = _unpack(
                request, uploaded, known, folder, limits, IN_MEMORY_BYTES if folder == folders[0] else None
            )
        except _LargerThanHint as error:
            # The trailer is wrong, or describes only the last of several gzip members.
            if not is_alone:
                raise RetryIndividually(str(error)) from error
            _remove_files(folder)
            folder = folders[-1]
            uploads = _unpack(request, uploaded, known, folder, limits, None)
        unpacked = perf_counter() - started
        snapshots = reader.read(uploads)
    finally:
        _remove_files(folder)
    snapshots.seconds["unpack"] = unpacked
    started = perf_counter()
    if snapshots.nbytes > RESULT_IN_MEMORY_BYTES:
        folder = folders[-1]
    parts = _write(snapshots, folder / request["result"])
    snapshots.seconds["write"] = perf_counter() - started
    counts = [[rows, dict(flaws)] for rows, flaws in zip(snapshots.rows_read.tolist(), snapshots.flaws, strict=True)]
    return {"parts": parts, "on_disk": folder != folders[0], "counts": counts, "seconds": snapshots.seconds}


class _LargerThanHint(Exception):
    """The unpacked files exceed the limit of the folder in memory."""


def _unpack(
    request: dict[str, Any],
    descriptors: list[int],
    known: pa.Table,
    folder: Path,
    limits: Limits,
    folder_bytes: int | None,
) -> list[UploadFiles]:
    """Unpacks the files of all uploads into `folder`.

    Raises:
        _LargerThanHint: the files exceed `folder_bytes`.
        UploadRejected: a file is damaged, or an upload exceeds `limits.max_raw_bytes`.
    """
    uploads: list[UploadFiles] = []
    remaining = iter(descriptors)
    folder_bytes_left = limits.max_raw_bytes * len(request["uploads"]) if folder_bytes is None else folder_bytes
    number = 0
    for upload in request["uploads"]:
        files, upload_bytes_left = [], limits.max_raw_bytes
        for name, key, etag in upload["files"]:
            path = folder / f"{number}{UNPACKED_SUFFIX}"
            number += 1
            try:
                size = unpack(next(remaining), name, path, max_bytes=min(upload_bytes_left, folder_bytes_left))
            except UploadRejected as rejection:
                if rejection.reason == "file_too_large_raw" and folder_bytes_left < upload_bytes_left:
                    raise _LargerThanHint(f"more than {folder_bytes} bytes") from rejection
                raise
            upload_bytes_left, folder_bytes_left = upload_bytes_left - size, folder_bytes_left - size
            files.append(File(path, name, key, etag))
        own, known = known.slice(0, upload["known"]), known.slice(upload["known"])
        snapshot_at, latest_at = (EPOCH + timedelta(microseconds=upload[name]) for name in ("snapshot_us", "latest_us"))
        uploads.append(UploadFiles(files, snapshot_at, own, latest_at))
    return uploads


def _remove_files(folder: Path) -> None:
    for path in folder.glob(f"*{UNPACKED_SUFFIX}"):
        path.unlink(missing_ok=True)


def _write(snapshots: Snapshots, path: Path) -> list[list[Any]]:
    """Writes the tables to `path` as Arrow messages without schemas, `seen` first.

    Returns the address, length and rows by upload of each table.

    Raises: UploadRejected where the keys of all rows, or a single row, exceed the memory that the parent has for them.
    """
    seen_bytes = sum(piece.batch.nbytes for piece in snapshots.seen)
    if seen_bytes > SEEN_MAX_BYTES:
        raise UploadRejected(
            "too_many_rows", f"the ids of all rows take {seen_bytes:,} bytes; at most {SEEN_MAX_BYTES:,}"
        )
    parts: list[list[Any]] = []
    with path.open("wb") as file:
        for address, pieces in (("seen", snapshots.seen), *snapshots.rows.items()):
            length, uploads = 0, []
            for piece in pieces:
                start = 0
                for batch in _bounded(piece.batch):
                    length += file.write(batch.serialize())
                    stop = start + batch.num_rows
                    uploads.append(np.bincount(piece.upload[start:stop], minlength=len(snapshots.flaws)).tolist())
                    start = stop
            parts.append([address, length, uploads])
    return parts


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yields `batch` in slices of at most `WRITTEN_BYTES`, or one row.

    Raises: UploadRejected for a row of more than `ROW_MAX_BYTES`.
    """
    if batch.num_rows > 1 and batch.nbytes > WRITTEN_BYTES:
        half = batch.num_rows // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif batch.nbytes > ROW_MAX_BYTES:
        raise UploadRejected("field_too_large", f"a row of {batch.nbytes:,} bytes; at most {ROW_MAX_BYTES:,} are read")
    elif batch.num_rows:
        yield batch


def _warm_up(folder: Path, reader: SnapshotReader) -> None:
    """Reads the time zones and a small SQLite database, so that late imports happen before the process is confined."""
    zone_table()
    path = folder / "warm.db"
    source = sqlite3.connect(path)
    source.execute("CREATE TABLE conversations_v2 (id TEXT, content TEXT, timestamp TEXT, metadata TEXT, extra TEXT)")
    source.execute(
        "INSERT INTO conversations_v2 VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'warm', '2026-01-02 03:04:05', '{}', 'x')"
    )
    source.commit()
    source.close()
    reader.read(
        [
            UploadFiles(
                [File(path, "warm.db", "warm.db", "")], datetime(2026, 1, 3, tzinfo=UTC), KNOWN_SCHEMA.empty_table()
            )
        ]
    )
    path.unlink()
    "\ud83d\ude00".encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

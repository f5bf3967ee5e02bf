"""The jobs sent to a worker and its answers. Answers are validated before they are used: hostile bytes may control the
worker.

An answer that an intact worker would not give counts as a crash of that worker.
"""

import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from akosha_assets.lake.errors import LocalStorageFailed, UploadRejected
from akosha_assets.lake.ingestion.extraction.spooled_rows import SpooledRows
from akosha_assets.lake.ingestion.source.change_detection import SEEN_SCHEMA
from akosha_assets.lake.reasons import REASONS
from akosha_assets.lake.schemas import TABLES, extracted

RESULT_MAX_BYTES = 4 * 1024**3
# Results of up to this many bytes stay in memory; the rows of larger ones go to a file.
IN_MEMORY_MAX_BYTES = 32 * 1024**2
# One Arrow message; an intact worker writes about 16 MiB, or one row.
MESSAGE_MAX_BYTES = 256 * 1024**2
# Keys and hashes of all rows of an upload, which are held in memory.
SEEN_MAX_BYTES = 256 * 1024**2
FLAWS_MAX = 100
COUNT_MAX = 1 << 53

_EXTRACTED = {"seen": SEEN_SCHEMA, **{address: extracted(spec) for address, spec in TABLES.items()}}
_REQUIRED = {
    address: [place for place, field in enumerate(schema) if not field.nullable]
    for address, schema in _EXTRACTED.items()
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One file of an upload, downloaded to `path` unchanged: gzip or raw."""

    name: str
    key: str
    etag: str
    path: Path


@dataclass(frozen=True)
class ExtractionJob:
    """One upload to read. `known`: the known rows of its system, in KNOWN_SCHEMA. `ref`: the caller's reference.

    `latest_at`: the time of rows without one of their own; None: `snapshot_at`.
    """

    ref: int
    system_id: str
    snapshot_at: datetime
    arrived_at: datetime
    files: tuple[SourceFile, ...]
    known: pa.Table
    latest_at: datetime | None = None


@dataclass(frozen=True)
class Extraction:
    """The content of one upload.

    `rows`: the changed rows by table address, in the schema `schemas.extracted`; those of a large upload are in
    `spooled` instead. `seen`: the key of every row of the snapshot with its current hash and event day; for rows known
    from a later snapshot these are the known ones. `flaws`: rows by code of `Flaw`. `seconds`: by step.
    """

    ref: int
    rows: dict[str, pa.Table]
    seen: pa.Table
    rows_read: int
    flaws: dict[str, int]
    seconds: dict[str, float]
    spooled: dict[str, SpooledRows] = field(default_factory=dict)

    @property
    def bytes_in_memory(self) -> int:
        """Arrow bytes of the rows and keys that are in memory."""
        return sum(table.nbytes for table in (*self.rows.values(), self.seen))

    @property
    def bytes_in_files(self) -> int:
        """Arrow bytes of the rows that are in files."""
        return sum(int(rows.sizes.sum()) for rows in self.spooled.values())


def read_answer(
    message: bytes, folders: list[Path], result: str, refs: list[int], spool: Path
) -> tuple[list[Extraction] | UploadRejected | None, bool]:
    """Reads the outcome of the uploads `refs` from `message` and the file `result`, and whether the worker is healthy.

    The outcome None means that each upload must be read individually. Rows of a large result are in files of `spool`,
    which no worker can open.

    Raises:
        LocalStorageFailed: `spool` is full or cannot be written.
    """
    try:
        answer = _object(message)
        if "apart" in answer and len(refs) > 1:
            return None, True
        if "rejected" in answer:
            return _rejection(answer), answer["healthy"] is True
        with _open_result(folders[-1 if answer["on_disk"] is True else 0] / result) as file:
            size = os.fstat(file.fileno()).st_size
            if size > IN_MEMORY_MAX_BYTES and len(refs) > 1:
                return None, True
            return _extractions(answer, _Result(file, size), refs, spool if size > IN_MEMORY_MAX_BYTES else None), True
    except LocalStorageFailed:
        raise
    except Exception as error:
        # A compromised worker may answer anything. An invalid answer rejects this upload only.
        logger.warning("an extraction worker gave an invalid answer", exc_info=True)
        return UploadRejected(
            "worker_crashed", f"the answer of its worker is invalid: {type(error).__name__}: {_text(error, 500)}"
        ), False


def _object(message: bytes) -> dict[str, Any]:
    answer = json.loads(message, parse_constant=_refuse_constant)
    if not isinstance(answer, dict):
        raise TypeError(f"an answer is a JSON object; found {type(answer).__name__}")
    return answer


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _text(value: Any, max_length: int) -> str:
    """Returns `value` as text without lone surrogates and NUL, which some stores reject."""
    return str(value)[:max_length].encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < COUNT_MAX:
        raise ValueError(f"a count is a whole number from 0 to {COUNT_MAX}; found {str(value)[:80]}")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < COUNT_MAX:
        raise ValueError(f"seconds are a number from 0 to {COUNT_MAX}; found {str(value)[:80]}")
    return float(value)


def _rejection(answer: dict[str, Any]) -> UploadRejected:
    reason = answer["rejected"]
    if reason not in REASONS:
        raise ValueError(f"unknown reason {str(reason)[:80]!r}")
    if "trace" in answer:
        logger.error("extraction failed in its worker", extra={"trace": _text(answer["trace"], 8000)})
    return UploadRejected(reason, _text(answer["message"], 2000), _text(answer["sample"], 500))


def _open_result(path: Path) -> IO[bytes]:
    """Opens the plain file at `path` and removes its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > RESULT_MAX_BYTES:
        file.close()
        raise ValueError(f"the result is not a plain file of at most {RESULT_MAX_BYTES} bytes")
    path.unlink()
    return file


class _Result:
    """A file of Arrow messages for pyarrow. Each byte is read once: the worker may still change the file."""

    closed = False

    def __init__(self, file: IO[bytes], size: int):
        self._file, self.size = file, size

    def read(self, length: int) -> bytes:
        """Returns the next `length` bytes. Raises: ValueError for more than the largest message."""
        if length > MESSAGE_MAX_BYTES:
            raise ValueError(f"a message of {length} bytes; expected at most {MESSAGE_MAX_BYTES}")
        return self._file.read(length)

    def tell(self) -> int:
        """Returns the position of the next byte."""
        return self._file.tell()

    def readable(self) -> bool:
        """Always true."""
        return True

    def close(self) -> None:
        """Does nothing: the opener closes the file."""

    def batches(self, address: str, length: int) -> Iterator[pa.RecordBatch]:
        """Yields the validated record batches of the next `length` bytes. Raises: ValueError or ArrowInvalid."""
        schema, end = _EXTRACTED[address], self.tell() + length
        reader = pa.PythonFile(self, mode="r")
        while self.tell() < end:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(reader), schema)
            batch.validate(full=True)
            for place in _REQUIRED[address]:
                if batch.column(place).null_count:
                    raise ValueError(f"{address} has a null {schema.names[place]}")
            yield batch
        if self.tell() != end:
            raise ValueError(f"the messages of {address} end at {self.tell()}; expected {end}")


def _extractions(answer: dict[str, Any], result: _Result, refs: list[int], spool: Path | None) -> list[Extraction]:
    tables: list[dict[str, list[pa.RecordBatch]]] = [{} for _ in refs]
    spooled: dict[str, SpooledRows] = {}
    bytes_left, addresses = result.size, set()
    for address, length, uploads in answer["parts"]:
        if not isinstance(length, int) or not 0 <= length <= bytes_left or address in addresses:
            raise ValueError("the parts of the result do not match the file")
        addresses.add(address)
        bytes_left -= length
        batches = result.batches(address, length)
        if address == "seen" and length > SEEN_MAX_BYTES:
            raise ValueError(f"the keys of all rows take {length} bytes; expected at most {SEEN_MAX_BYTES}")
        if spool is not None and address != "seen":
            spooled[address] = _spool_rows(batches, _EXTRACTED[address], spool)
            continue
        pieces = iter(uploads)
        for batch in batches:
            for rows, own in zip(_split(batch, next(pieces, [])), tables, strict=True):
                if rows is not None:
                    own.setdefault(address, []).append(rows)
    if "seen" not in addresses:
        raise ValueError("the result has no keys of all rows")
    extractions = []
    for ref, own, (rows_read, flaws) in zip(refs, tables, answer["counts"], strict=True):
        made = {address: pa.Table.from_batches(batches, schema=_EXTRACTED[address]) for address, batches in own.items()}
        extractions.append(
            Extraction(
                ref=ref,
                seen=made.pop("seen", SEEN_SCHEMA.empty_table()),
                rows=made,
                rows_read=_count(rows_read),
                flaws={_text(code, 80): _count(count) for code, count in list(flaws.items())[:FLAWS_MAX]},
                seconds={
                    _text(step, 80): _seconds(seconds) / len(refs)
                    for step, seconds in list(answer["seconds"].items())[:FLAWS_MAX]
                },
                spooled=spooled,
            )
        )
    return extractions


def _spool_rows(batches: Iterator[pa.RecordBatch], schema: pa.Schema, spool: Path) -> SpooledRows:
    try:
        return SpooledRows.write(batches, schema, spool)
    except OSError as error:
        # Arrow's errors about damaged messages are OSErrors as well.
        if error.errno is None:
            raise
        raise LocalStorageFailed(f"{spool} cannot hold the rows of an upload: {error}") from error


def _split(batch: pa.RecordBatch, rows: Any) -> list[pa.RecordBatch | None]:
    """Returns the rows of each upload, which follow each other in `batch`; None for an upload without rows."""
    if not all(isinstance(number, int) and number >= 0 for number in rows) or sum(rows) != batch.num_rows:
        raise ValueError("the rows by upload do not add up to the batch")
    pieces, start = [], 0
    for number in rows:
        pieces.append(batch.slice(start, number) if number else None)
        start += number
    return pieces

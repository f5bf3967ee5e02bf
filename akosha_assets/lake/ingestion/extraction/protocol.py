"""What goes to a worker and what it hands back, checked before anyone uses it: the worker held hostile bytes and may
speak for them.

Any answer that is not exactly what a sound worker gives counts as a crash of that worker.
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

from akosha_assets.lake.errors import REASONS, LocalStorageFailed, UploadRejected
from akosha_assets.lake.ingestion.extraction.spooled_rows import SpooledRows
from akosha_assets.lake.ingestion.source.change_detection import SEEN_SCHEMA
from akosha_assets.lake.schemas import TABLES, extracted

RESULT_MAX_BYTES = 4 * 1024**3
# Results up to this many bytes are held in memory, larger ones in a file.
HELD_BYTES = 32 * 1024**2
# One Arrow message; a sound worker writes about 16 MiB, or one row.
MESSAGE_MAX_BYTES = 256 * 1024**2
# Keys and hashes of all rows of an upload, which stay in memory.
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
    """One file of an upload, already fetched to `path`, gzip or raw as it lay in the inbox."""

    name: str
    key: str
    etag: str
    path: Path


@dataclass(frozen=True)
class ExtractionJob:
    """One upload to read. `known`: what is known of its system, in KNOWN_SCHEMA; `ref` is the caller's own."""

    ref: int
    system_id: str
    snapshot_at: datetime
    arrived_at: datetime
    files: tuple[SourceFile, ...]
    known: pa.Table


@dataclass(frozen=True)
class Extraction:
    """What one upload holds.

    `rows`: changed rows only, by table address, in the schema `schemas.extracted`; those of a large upload are in
    `spooled` instead. `seen`: every row of the snapshot with the hash and event day it stands under, which for rows
    known from a later snapshot are the known ones. `flaws`: oddities that stopped nothing, counted by code. `seconds`:
    by step.
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
        """Bytes in Arrow of what is not in a file."""
        return sum(table.nbytes for table in (*self.rows.values(), self.seen))

    @property
    def bytes_in_files(self) -> int:
        """Bytes in Arrow of the rows in files."""
        return sum(int(rows.sizes.sum()) for rows in self.spooled.values())


def read_answer(
    message: bytes, folders: list[Path], result: str, refs: list[int], spool: Path
) -> tuple[list[Extraction] | UploadRejected | None, bool]:
    """What `message` and the file `result` tell of the uploads `refs`, and whether the worker is fit for more. None:
    each is to be read by itself. Rows of a large result are then in files of `spool`, which no worker can open.

    Raises:
        LocalStorageFailed: `spool` cannot hold them.
    """
    try:
        answer = _object(message)
        if "apart" in answer and len(refs) > 1:
            return None, True
        if "rejected" in answer:
            return _rejection(answer), answer["healthy"] is True
        with _opened(folders[-1 if answer["on_disk"] is True else 0] / result) as file:
            size = os.fstat(file.fileno()).st_size
            if size > HELD_BYTES and len(refs) > 1:
                return None, True
            return _extractions(answer, _Result(file, size), refs, spool if size > HELD_BYTES else None), True
    except LocalStorageFailed:
        raise
    except Exception as error:
        # Whoever took the worker over chooses what is in it: every way in which it can be wrong costs this upload and
        # nothing else.
        logger.warning("an extraction worker gave an answer that cannot be used", exc_info=True)
        return UploadRejected(
            "worker_crashed", f"its worker's answer cannot be used: {type(error).__name__}: {_text(error, 500)}"
        ), False


def _object(message: bytes) -> dict[str, Any]:
    answer = json.loads(message, parse_constant=_refused_number)
    if not isinstance(answer, dict):
        raise TypeError(f"an answer is a JSON object; found {type(answer).__name__}")
    return answer


def _refused_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _text(value: Any, most: int) -> str:
    """What can be stored and logged everywhere: no halves of UTF-16 pairs and no NUL."""
    return str(value)[:most].encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


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


def _opened(path: Path) -> IO[bytes]:
    """The plain file at `path`, which has no name any more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > RESULT_MAX_BYTES:
        file.close()
        raise ValueError(f"result is no plain file of at most {RESULT_MAX_BYTES} bytes")
    path.unlink()
    return file


class _Result:
    """A file of Arrow messages, each read once: its worker may still change the file. The reader that pyarrow takes."""

    closed = False

    def __init__(self, file: IO[bytes], size: int):
        self._file, self.size = file, size

    def read(self, length: int) -> bytes:
        """The next `length` bytes. Raises: ValueError where a message claims more than any may have."""
        if length > MESSAGE_MAX_BYTES:
            raise ValueError(f"a message of {length} bytes; expected at most {MESSAGE_MAX_BYTES}")
        return self._file.read(length)

    def tell(self) -> int:
        """The place of the next byte."""
        return self._file.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Nothing: the file is closed by who opened it."""

    def batches(self, address: str, length: int) -> Iterator[pa.RecordBatch]:
        """The record batches in the next `length` bytes, checked. Raises: ValueError or ArrowInvalid."""
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
            raise ValueError(f"the messages of {address} do not end where they should")


def _extractions(answer: dict[str, Any], result: _Result, refs: list[int], spool: Path | None) -> list[Extraction]:
    tables: list[dict[str, list[pa.RecordBatch]]] = [{} for _ in refs]
    spooled: dict[str, SpooledRows] = {}
    left, met = result.size, set()
    for address, length, uploads in answer["parts"]:
        if not isinstance(length, int) or not 0 <= length <= left or address in met:
            raise ValueError("parts of the result do not fit the file")
        met.add(address)
        left -= length
        batches = result.batches(address, length)
        if address == "seen" and length > SEEN_MAX_BYTES:
            raise ValueError(f"what was seen takes {length} bytes; expected at most {SEEN_MAX_BYTES}")
        if spool is not None and address != "seen":
            spooled[address] = _spooled(batches, _EXTRACTED[address], spool)
            continue
        pieces = iter(uploads)
        for batch in batches:
            for rows, own in zip(_split(batch, next(pieces, [])), tables, strict=True):
                if rows is not None:
                    own.setdefault(address, []).append(rows)
    if "seen" not in met:
        raise ValueError("the result does not say what was seen")
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


def _spooled(batches: Iterator[pa.RecordBatch], schema: pa.Schema, spool: Path) -> SpooledRows:
    try:
        return SpooledRows.write(batches, schema, spool)
    except OSError as error:
        # Arrow's errors about damaged messages are OSErrors as well.
        if error.errno is None:
            raise
        raise LocalStorageFailed(f"{spool} cannot hold the rows of an upload: {error}") from error


def _split(batch: pa.RecordBatch, rows: Any) -> list[pa.RecordBatch | None]:
    """The rows of each upload, which lie one after the other; None for one that has none."""
    if not all(isinstance(number, int) and number >= 0 for number in rows) or sum(rows) != batch.num_rows:
        raise ValueError("rows by upload do not fit the batch")
    pieces, start = [], 0
    for number in rows:
        pieces.append(batch.slice(start, number) if number else None)
        start += number
    return pieces

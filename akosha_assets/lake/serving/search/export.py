"""Exports the memories that pass filters as a stream: Arrow batches, JSON lines or one Parquet file.

Rows come from one snapshot, tier by tier, newest day first, each memory once and unranked.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from akosha_assets.lake.serving.parts.part import CODED, Part
from akosha_assets.lake.serving.parts.source_presence import PRESENT
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.snapshot import Snapshot

BATCH_ROWS = 4096
UTC = pa.timestamp("us", tz="UTC")
PAYLOAD = ("id", "text", "is_summary", "session_id", "tags", "occurred_from", "upload_id")
SCHEMA = pa.schema(
    [
        pa.field("tier", pa.string()),
        pa.field("event_day", pa.date32()),
        pa.field("occurred_at", UTC),
        pa.field("arrived_at", UTC),
        *[pa.field(name, pa.string()) for name in CODED],
        pa.field("importance", pa.float32()),
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("is_summary", pa.bool_()),
        pa.field("session_id", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("occurred_from", pa.string()),
        pa.field("upload_id", pa.string()),
        pa.field("absent_since", UTC),
    ]
)


def batches(snapshot: Snapshot, filters: Filters) -> Iterator[pa.RecordBatch]:
    """The memories that pass the filters, in the columns of `SCHEMA`, at most `BATCH_ROWS` at once."""
    for name, tier in snapshot.tiers.items():
        for part in tier.parts:
            mask = filters.mask(part, snapshot.terms)
            rows = np.arange(len(part)) if mask is None else np.flatnonzero(mask)
            for start in range(0, len(rows), BATCH_ROWS):
                yield _batch(snapshot, name, part, rows[start : start + BATCH_ROWS])


def json_lines(snapshot: Snapshot, filters: Filters) -> Iterator[bytes]:
    """One JSON object per line, a batch of lines at once."""
    for batch in batches(snapshot, filters):
        yield b"".join(
            orjson.dumps(row, default=_isoformat, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist()
        )


def parquet(snapshot: Snapshot, filters: Filters) -> Iterator[bytes]:
    """One Parquet file in chunks."""
    sink = _ChunkSink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), SCHEMA, compression="zstd") as writer:
        for batch in batches(snapshot, filters):
            writer.write_batch(batch)
            yield sink.drain()
    yield sink.drain()


def _batch(snapshot: Snapshot, tier: str, part: Part, rows: np.ndarray) -> pa.RecordBatch:
    """The rows of `part` at `rows`, (n,) int64."""
    payload = part.payload.select(PAYLOAD).take(pa.array(rows)).combine_chunks()
    columns: dict[str, pa.Array] = {
        "tier": pa.repeat(tier, len(rows)),
        "event_day": pa.repeat(pa.scalar(part.day), len(rows)),
        "occurred_at": pa.array(part.occurred_us[rows], pa.int64()).cast(UTC),
        "arrived_at": pa.array(part.arrived_us[rows], pa.int64()).cast(UTC),
        # NaN becomes null.
        "importance": pa.array(part.importance[rows], from_pandas=True),
    }
    since_us = np.zeros(len(rows), np.int64) if part.absent_since_us is None else part.absent_since_us[rows]
    columns["absent_since"] = pa.array(since_us, mask=since_us == PRESENT).cast(UTC)
    for name in CODED:
        codes = part.codes[name][rows]
        indices = pa.array(codes, pa.int32(), mask=codes < 0)
        strings = pa.array(snapshot.terms[name].names, pa.string())
        columns[name] = pa.DictionaryArray.from_arrays(indices, strings).cast(pa.string())
    for name in PAYLOAD:
        column = payload[name]
        columns[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in SCHEMA], schema=SCHEMA)


def _isoformat(value: Any) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")


class _ChunkSink:
    """A file object that keeps what is written until `drain` returns it."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._position = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._position += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        return

    def close(self) -> None:
        self.closed = True

    def drain(self) -> bytes:
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

"""A filtered set of memories as a stream: Arrow batches, JSON lines or Parquet, a few thousand rows at a time.

Rows come from one snapshot, newest day first, each memory once; nothing is ranked.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from akosha_assets.lake.serving.parts.part import CODED, Part
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.snapshot import Snapshot

BATCH_ROWS = 4096
UTC = pa.timestamp("us", tz="UTC")
PLAIN = ("id", "text", "is_summary", "session_id", "tags", "occurred_from", "upload_id")
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
    ]
)


def batches(snapshot: Snapshot, filters: Filters) -> Iterator[pa.RecordBatch]:
    """The memories that pass, in the columns of `SCHEMA`."""
    for name, tier in snapshot.tiers.items():
        for part in tier.parts:
            mask = filters.mask(part, snapshot.terms)
            rows = np.arange(len(part)) if mask is None else np.flatnonzero(mask)
            for start in range(0, len(rows), BATCH_ROWS):
                yield _batch(snapshot, name, part, rows[start : start + BATCH_ROWS])


def json_lines(snapshot: Snapshot, filters: Filters) -> Iterator[bytes]:
    """One JSON object a line."""
    for batch in batches(snapshot, filters):
        yield b"".join(orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist())


def parquet(snapshot: Snapshot, filters: Filters) -> Iterator[bytes]:
    """One Parquet file, in pieces."""
    sink = _Pieces()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), SCHEMA, compression="zstd") as writer:
        for batch in batches(snapshot, filters):
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()


def _batch(snapshot: Snapshot, tier: str, part: Part, rows: np.ndarray) -> pa.RecordBatch:
    count = len(rows)
    plain = part.payload.select(PLAIN).take(pa.array(rows)).combine_chunks()
    columns: dict[str, pa.Array] = {
        "tier": pa.repeat(tier, count),
        "event_day": pa.repeat(pa.scalar(part.day), count),
        "occurred_at": pa.array(part.occurred_us[rows], pa.int64()).cast(UTC),
        "arrived_at": pa.array(part.arrived_us[rows], pa.int64()).cast(UTC),
        "importance": pa.array(part.importance[rows], from_pandas=True),
    }
    for name in CODED:
        codes = part.codes[name][rows]
        indices = pa.array(codes, pa.int32(), mask=codes < 0)
        columns[name] = pa.DictionaryArray.from_arrays(indices, pa.array(snapshot.terms[name].names, pa.string())).cast(
            pa.string()
        )
    for name in PLAIN:
        column = plain[name]
        columns[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in SCHEMA], schema=SCHEMA)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")


class _Pieces:
    """A file that is written to and taken from in pieces."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._at = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        held = bytes(data)
        self._held.append(held)
        self._at += len(held)
        return len(held)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        return

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        data = b"".join(self._held)
        self._held.clear()
        return data

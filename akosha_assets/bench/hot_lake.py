"""Builds a hot table of any size for benchmarks from vectors and texts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.tables import Fence

BATCH_ROWS = 25_000
# The hot window is seven days, today included.
DAYS = 7


def fill(
    lake: Lake, vectors: np.ndarray, texts: list[str], space: str, *, systems: int, on_rows: Callable[[int], None]
) -> None:
    """Fills the hot table with a row for each of `vectors`, spread evenly over the last seven days and over `systems`.

    A text is two paragraphs, so that a million rows have different texts.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    bounds = np.linspace(0, len(vectors), DAYS + 1).astype(int)
    sequence = 0
    for day in range(DAYS):
        occurred = now - timedelta(days=day)
        for start in range(bounds[day], bounds[day + 1], BATCH_ROWS):
            numbers = np.arange(start, min(start + BATCH_ROWS, bounds[day + 1]))
            sequence += 1
            new_rows = rows(numbers, vectors[numbers], texts, space, systems, occurred, sequence)
            lake.append(HOT.address, new_rows, Fence("bench", sequence), {})
            on_rows(len(numbers))


def rows(
    numbers: np.ndarray,
    vectors: np.ndarray,
    texts: list[str],
    space: str,
    systems: int,
    occurred: datetime,
    sequence: int,
) -> pa.Table:
    """Rows of the hot table with `numbers` as ids, which occurred and arrived at `occurred`."""
    count = len(numbers)
    paragraphs = pa.array(texts)
    other = (numbers * 7_919 + numbers // len(texts)) % len(texts)
    pairs = zip(paragraphs.take(pa.array(numbers % len(texts))), paragraphs.take(pa.array(other)), strict=True)
    stored = np.ascontiguousarray(vectors, "<f2")
    width = stored.shape[1] * 2
    offsets = pa.py_buffer((np.arange(count + 1, dtype=np.int32) * width).tobytes())
    columns: dict[str, pa.Array] = {
        "system_id": pa.array([f"system-{number % systems:05d}" for number in numbers.tolist()]),
        "kind": pa.repeat("conversation", count),
        "id": pa.array([f"{number:026d}" for number in numbers.tolist()]),
        "event_day": pa.repeat(pa.scalar(occurred.date()), count),
        "occurred_at": pa.repeat(pa.scalar(occurred, HOT.schema.field("occurred_at").type), count),
        "occurred_from": pa.repeat("column", count),
        "text": pa.array([f"{one} {two}" for one, two in pairs]),
        "project": pa.array([f"project-{number % 24}" for number in numbers.tolist()]),
        "vector": pa.Array.from_buffers(pa.binary(), count, [None, offsets, pa.py_buffer(stored.tobytes())]),
        "space": pa.repeat(space, count),
        "content_hash": pa.array(numbers.astype(np.int64)),
        "source_table": pa.repeat("conversations_v2", count),
        "upload_id": pa.repeat(f"bench-{sequence}", count),
        "object_key": pa.repeat("bench", count),
        "object_etag": pa.repeat("bench", count),
        "snapshot_at": pa.repeat(pa.scalar(occurred, HOT.schema.field("snapshot_at").type), count),
        "arrived_at": pa.repeat(pa.scalar(occurred, HOT.schema.field("arrived_at").type), count),
        "batch_id": pa.repeat(pa.scalar(sequence, pa.int64()), count),
        "parser_version": pa.repeat(pa.scalar(1, pa.int32()), count),
    }
    return pa.table([columns.get(field.name, pa.nulls(count, field.type)) for field in HOT.schema], schema=HOT.schema)

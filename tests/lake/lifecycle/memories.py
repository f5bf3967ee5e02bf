"""Hot rows for the tests of the lifecycle: real tables, made-up memories."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.tables import Fence

TODAY = date(2026, 11, 1)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SPACE = "test-space"


def days_ago(age: int) -> date:
    return TODAY - timedelta(days=age)


def vectors(count: int, seed: int = 0, dimension: int = 384) -> np.ndarray:
    """Unit vectors in loose clusters, as text has them."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((12, dimension))
    rows = centres[random.integers(0, 12, count)] + 0.7 * random.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def hot_rows(
    day: date, count: int, *, batch: int = 1, first: int = 0, words: str = "", embedded: bool = True, snapshot: int = 0
) -> pa.Table:
    at = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
    numbers = range(first, first + count)
    floats = vectors(count, seed=batch)
    snapshot_at = NOW + timedelta(minutes=snapshot)
    rows = [
        {
            "system_id": f"system-{n % 3}",
            "kind": "conversation" if n % 2 else "reflection",
            "id": f"id-{n:06d}",
            "event_day": day,
            "occurred_at": at + timedelta(seconds=n % 3600),
            "occurred_from": "timestamp",
            "text": (
                f"Build {n} failed. The cache of build {n} was stale {words}. We cleared the cache. Then build "
                f"{n} passed. Lunch was late."
            ),
            "project": f"project-{n % 4}",
            "category": "facts",
            "importance": 0.5,
            "tags": ["a", f"t{n % 5}"],
            "attributes": '{"turn": 1}',
            "fingerprint": np.random.default_rng(n).integers(0, 2**63, 128, dtype=np.uint64).tobytes(),
            "vector": floats[n - first].astype("<f2").tobytes() if embedded else None,
            "space": SPACE if embedded else None,
            "content_hash": hash_of(n, words),
            "source_table": "conversations_v2",
            "upload_id": f"upload-{batch}",
            "object_key": f"systems/system-{n % 3}/uploads/upload-{batch}/reflection.duckdb",
            "object_etag": f"etag-{batch}",
            "snapshot_at": snapshot_at,
            "arrived_at": snapshot_at,
            "batch_id": batch,
            "parser_version": 1,
        }
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, HOT.schema)


def hash_of(number: int, words: str) -> int:
    return (number * 2_654_435_761 + len(words)) % 2**62


def store(lake: Lake, rows: pa.Table, batch: int = 1) -> None:
    lake.append("lifecycle/hot", rows, Fence("ingest/test", batch), {})

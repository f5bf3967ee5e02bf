"""Rows of the hot table for tests of serving, made from a few words each and committed to a real Delta table."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import as_stored
from akosha_assets.lake.lifecycle import cold, warm
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.tables import Fence

NOW = datetime.now(UTC).replace(microsecond=0)
SPACE = "test/space"
DIMENSIONS = 16


def unit(*seed: object) -> np.ndarray:
    """(DIMENSIONS,) float32, a unit vector that depends on `seed` alone."""
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:8], "little")
    vector = np.random.default_rng(number).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def memory(
    id: str, text: str, *, system: str = "laptop-ada", age: timedelta = timedelta(), **columns: Any
) -> dict[str, Any]:
    """One row of the hot table."""
    occurred = NOW - age
    row: dict[str, Any] = dict.fromkeys(HOT.schema.names)
    row |= {
        "system_id": system,
        "kind": "conversation",
        "id": id,
        "event_day": occurred.date(),
        "occurred_at": occurred,
        "occurred_from": "column",
        "text": text,
        "project": "billing",
        "tags": [],
        "content_hash": int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little"),
        "source_table": "conversations",
        "upload_id": "u-1",
        "object_key": "k",
        "object_etag": "e",
        "snapshot_at": NOW,
        "arrived_at": NOW,
        "batch_id": 1,
        "parser_version": 1,
        "vector": as_stored(unit(text)[None])[0],
        "space": SPACE,
    }
    return row | columns


def commit(lake: Lake, sequence: int, *rows: dict[str, Any]) -> int:
    """Append `rows` in one commit; returns the version."""
    return lake.append("lifecycle/hot", pa.Table.from_pylist(list(rows), HOT.schema), Fence("test", sequence), {})


def upsert(lake: Lake, sequence: int, *rows: dict[str, Any]) -> int:
    """Replace the older versions of `rows` in one commit; returns the version."""
    table = pa.Table.from_pylist(list(rows), HOT.schema)
    return lake.upsert("lifecycle/hot", table, Fence("test", sequence), {}, only="true")


def commit_to_tier(lake: Lake, sequence: int, tier: str, *rows: dict[str, Any]) -> int:
    """Convert `rows` of hot to the form of `tier` and append them there in one commit; returns the version."""
    batch = pa.Table.from_pylist(list(rows), HOT.schema).combine_chunks().to_batches()[0]
    move = warm.Move(TierPolicy.of(lake.settings), NOW, "test")
    converted = (warm if tier == "warm" else cold).form(batch, move)
    return lake.append(f"lifecycle/{tier}", pa.Table.from_batches([converted]), Fence("test", sequence), {})


def set_commit_time(lake: Lake, address: str, version: int, at: datetime | None) -> None:
    """Set the commit time of `version` in the log to `at`, or remove it."""
    entry = Path(lake.uri(address)) / f"_delta_log/{version:020d}.json"
    first, *others = entry.read_text().splitlines()
    actions = json.loads(first)
    del actions["commitInfo"]["timestamp"]
    if at is not None:
        actions["commitInfo"]["timestamp"] = int(at.timestamp() * 1000)
    entry.write_text("\n".join([json.dumps(actions, separators=(",", ":")), *others]) + "\n")

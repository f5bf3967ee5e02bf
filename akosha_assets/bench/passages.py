"""Measures what the passages of a long memory cost: time of the model, bytes in each tier and in the service."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akosha_assets.bench import corpus, runs
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.lifecycle import cold, warm
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.passages import CutTexts
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.vectors import inverted_file
from akosha_assets.lake.settings import LakeSettings

PARAGRAPHS = 400
ROWS_BYTES, RANGES_BYTES = 4, 8
STORED = ("vector", "vector_scale", "sketch", "sketch_scale", "passages", "passage_scales", "passage_ranges")


def run(*, characters: list[int], work: Path | None) -> dict[str, Any]:
    """For a memory of each length in characters: its vectors, the seconds to cut and embed it, the bytes of its vectors
    in each tier, and in the service while the vectors of a day are indexed.
    """
    embedder = Embedder.load(LakeSettings())
    words = " ".join(corpus.paragraphs(PARAGRAPHS))
    embedder.embed(["the first call is slower"])
    with runs.home(work) as settings:
        policy = TierPolicy.of(settings)
        costs = {
            str(length): _cost(embedder, (words * (length // len(words) + 1))[:length], policy) for length in characters
        }
    return {"by_characters": costs, "space": embedder.space, "machine": runs.machine()}


def _cost(embedder: Embedder, text: str, policy: TierPolicy) -> dict[str, Any]:
    started = time.perf_counter()
    cut = CutTexts.cut(embedder, [text])
    cut_at = time.perf_counter()
    vectors, others = embedder.embed(cut.first), embedder.embed(cut.others)
    embedded_at = time.perf_counter()
    now = datetime.now(UTC)
    columns: dict[str, Any] = {
        "text": text,
        "vector": as_stored(vectors)[0],
        "passages": cut.split(others.astype("<f2"))[0],
        "passage_ranges": cut.ranges[0],
        "tags": [],
    }
    row = {field.name: columns.get(field.name, _filler(field.type, now)) for field in HOT.schema}
    [hot] = pa.Table.from_pylist([row], HOT.schema).to_batches()
    move = Move(policy, now, "bench")
    count = 1 + len(others)
    index = inverted_file.nbytes(count, embedder.dimensions) - inverted_file.nbytes(0, embedder.dimensions)
    return {
        "vectors": count,
        "covered_characters": len(
            text.encode()[: int(np.frombuffer(cut.ranges[0], "<i4")[-1])].decode(errors="ignore")
        ),
        "cut_ms": round(1000 * (cut_at - started), 1),
        "embed_ms": round(1000 * (embedded_at - cut_at), 1),
        "hot_bytes": _stored_bytes(hot),
        "warm_bytes": _stored_bytes(warm.form(hot, move)),
        "cold_bytes": _stored_bytes(cold.form(hot, move)),
        "service_bytes": count * (2 * embedder.dimensions + ROWS_BYTES + RANGES_BYTES) + index,
    }


def _filler(kind: pa.DataType, now: datetime) -> Any:
    if pa.types.is_timestamp(kind):
        return now
    if pa.types.is_date(kind):
        return now.date()
    return "bench" if pa.types.is_string(kind) else 0 if pa.types.is_integer(kind) else None


def _stored_bytes(rows: pa.RecordBatch) -> int:
    """Bytes of the vectors and their ranges in one row, before compression, which gains nothing on them."""
    values = [rows[name][0].as_py() for name in STORED if name in rows.schema.names]
    return sum(len(value) if isinstance(value, bytes) else 4 for value in values if value is not None)

"""The warm form of hot rows: three sentences instead of the text, int8 vectors, every column that is filtered on.

Rows in, rows out; how a day gets here is in `aging.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.lifecycle import quantization
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.summaries import summarise
from akosha_assets.lake.lifecycle_tables import WARM
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.setting_groups.tiers import WARM_MAY_KEEP

FINGERPRINT_BITS = 8


@dataclass(frozen=True)
class Move:
    """What every row of one move says of it."""

    policy: TierPolicy
    moved_at: datetime
    aged_by: str


def columns_read(policy: TierPolicy) -> list[str]:
    """The columns of hot that the warm form is made from."""
    return [
        name for name in HOT.schema.names if name not in WARM_MAY_KEEP or name in policy.warm_keeps or name == "text"
    ]


def form(rows: pa.RecordBatch, move: Move) -> pa.RecordBatch:
    """The warm form of hot `rows`."""
    texts = rows["text"]
    vectors, scale = int8_form(rows["vector"], partial(_halves, rows["vector"]))
    made = {
        "summary": summarise(texts, move.policy.warm_sentences),
        "fingerprint": quantization.compact_fingerprint(rows["fingerprint"], FINGERPRINT_BITS),
        "vector": vectors,
        "vector_scale": scale,
        "text_bytes": pc.cast(pc.binary_length(texts), pa.int32()),
        **constants(move, rows.num_rows),
    }
    kept = {name: rows[name] for name in WARM.schema.names if name in rows.schema.names and name not in made}
    dropped = {
        name: pa.nulls(rows.num_rows, pa.string()) for name in WARM_MAY_KEEP if name not in move.policy.warm_keeps
    }
    columns = kept | made | dropped
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(WARM.schema.field(name).type) for name in WARM.schema.names], schema=WARM.schema
    )


def constants(move: Move, count: int) -> dict[str, pa.Array]:
    """The columns that are the same in every row of one move."""
    return {
        "summary_method": pa.repeat(move.policy.summary_method, count),
        "policy_version": pa.repeat(move.policy.version, count),
        "moved_at": pa.repeat(pa.scalar(move.moved_at, pa.timestamp("us", tz="UTC")), count),
        "aged_by": pa.repeat(move.aged_by, count),
    }


def resummarised(rows: pa.RecordBatch, move: Move) -> pa.RecordBatch:
    """Warm `rows` with their summaries made anew where the whole text was kept; the others as they are."""
    has_text = pc.is_valid(rows["text"])
    texts = pc.coalesce(rows["text"], rows["summary"])
    made = {"summary": summarise(texts, move.policy.warm_sentences), **constants(move, rows.num_rows)}
    columns = [
        pc.if_else(has_text, made[name], rows[name]) if name in made else rows[name] for name in WARM.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=WARM.schema)


def int8_form(vectors: pa.Array, floats: Callable[[np.ndarray], np.ndarray]) -> tuple[pa.Array, pa.Array]:
    """int8 and scale of every one of `vectors` that is there; `floats` gives the float32 numbers at row numbers of it."""
    groups = []
    scales = np.zeros(len(vectors), np.float32)
    for numbers in quantization.by_length(vectors):
        int8, scales[numbers] = quantization.to_int8(floats(numbers))
        groups.append((numbers, int8))
    return quantization.scattered(len(vectors), groups), pa.array(
        scales, mask=pc.is_null(vectors).to_numpy(zero_copy_only=False)
    )


def _halves(vectors: pa.Array, numbers: np.ndarray) -> np.ndarray:
    return quantization.matrix(vectors.take(pa.array(numbers)), "<f2").astype(np.float32)

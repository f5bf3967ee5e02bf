"""Converts hot rows to their warm form: three sentences instead of the text, int8 vectors, all filtered columns."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.lifecycle import passage_forms, quantization
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.summaries import summarise
from akosha_assets.lake.lifecycle_tables import WARM
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.setting_groups.tiers import WARM_MAY_KEEP

FINGERPRINT_BITS = 8


@dataclass(frozen=True)
class Move:
    """Values that every row of one move shares."""

    policy: TierPolicy
    moved_at: datetime
    aged_by: str


def columns_read(policy: TierPolicy) -> list[str]:
    """The columns of hot that the conversion reads."""
    return [
        name for name in HOT.schema.names if name not in WARM_MAY_KEEP or name in policy.warm_keeps or name == "text"
    ]


def form(rows: pa.RecordBatch, move: Move) -> pa.RecordBatch:
    """The warm form of hot `rows`."""
    texts = rows["text"]
    vectors, scale = int8_form(rows["vector"], partial(_halves, rows["vector"]))
    passages = passage_forms.convert(rows, quantization.to_int8)
    computed = {
        "summary": summarise(texts, move.policy.warm_sentences),
        "fingerprint": quantization.compact_fingerprint(rows["fingerprint"], FINGERPRINT_BITS),
        "vector": vectors,
        "vector_scale": scale,
        **passages,
        "text_bytes": pc.cast(pc.binary_length(texts), pa.int32()),
        **constants(move, rows.num_rows),
    }
    kept = {name: rows[name] for name in WARM.schema.names if name in rows.schema.names and name not in computed}
    dropped = {
        name: pa.nulls(rows.num_rows, pa.string()) for name in WARM_MAY_KEEP if name not in move.policy.warm_keeps
    }
    columns = kept | computed | dropped
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(WARM.schema.field(name).type) for name in WARM.schema.names], schema=WARM.schema
    )


def constants(move: Move, count: int) -> dict[str, pa.Array]:
    """The columns that have one value for all rows of a move, each (count,)."""
    return {
        "summary_method": pa.repeat(move.policy.summary_method, count),
        "policy_version": pa.repeat(move.policy.version, count),
        "moved_at": pa.repeat(pa.scalar(move.moved_at, pa.timestamp("us", tz="UTC")), count),
        "aged_by": pa.repeat(move.aged_by, count),
    }


def summarise_again(rows: pa.RecordBatch, move: Move) -> pa.RecordBatch:
    """Warm `rows` with new summaries where the whole text was kept."""
    has_text = pc.is_valid(rows["text"])
    texts = pc.coalesce(rows["text"], rows["summary"])
    new = {"summary": summarise(texts, move.policy.warm_sentences), **constants(move, rows.num_rows)}
    columns = [pc.if_else(has_text, new[name], rows[name]) if name in new else rows[name] for name in WARM.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=WARM.schema)


def int8_form(vectors: pa.Array, floats: Callable[[np.ndarray], np.ndarray]) -> tuple[pa.Array, pa.Array]:
    """int8 vectors, (rows,) binary, and their scales, (rows,) float32; null where `vectors` is null.

    `floats` returns the vectors at given rows, all of one length, as float32.
    """
    groups = []
    scales = np.zeros(len(vectors), np.float32)
    for numbers in quantization.by_length(vectors):
        int8, scales[numbers] = quantization.to_int8(floats(numbers))
        groups.append((numbers, int8))
    is_absent = pc.is_null(vectors).to_numpy(zero_copy_only=False)
    return quantization.scatter(len(vectors), groups), pa.array(scales, mask=is_absent)


def _halves(vectors: pa.Array, numbers: np.ndarray) -> np.ndarray:
    return quantization.matrix(vectors.take(pa.array(numbers)), "<f2").astype(np.float32)

"""Converts hot or warm rows to their cold form: one sentence, a compact fingerprint, a sketch of the vector.

Also computes the daily metrics of the cold rows.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.lifecycle import passage_forms, quantization
from akosha_assets.lake.lifecycle.summaries import summarise
from akosha_assets.lake.lifecycle.warm import Move, constants
from akosha_assets.lake.lifecycle_tables import COLD, DAILY_METRICS, WARM
from akosha_assets.lake.schemas import HOT

FINGERPRINT_BITS = 4
SKETCH_COLUMNS = ("sketch", "sketch_scale")
_DROPPED = ("text", "attributes", "_rescued", "vector", "vector_scale")
_METRICS_BY = ["event_day", "system_id", "kind", "project", "category"]


def columns_read(*, of_warm: bool) -> list[str]:
    """The columns of hot or warm that the conversion reads."""
    if of_warm:
        return [name for name in WARM.schema.names if name not in ("attributes", "_rescued")]
    return [name for name in HOT.schema.names if name not in ("attributes", "_rescued")]


def form(rows: pa.RecordBatch, move: Move) -> pa.RecordBatch:
    """The cold form of hot or warm `rows`."""
    of_warm = "summary" in rows.schema.names
    texts = pc.coalesce(rows["text"], rows["summary"]) if of_warm else rows["text"]
    sketches, scale = _sketches(rows)
    computed = {
        "summary": summarise(texts, move.policy.cold_sentences),
        "fingerprint": quantization.compact_fingerprint(rows["fingerprint"], FINGERPRINT_BITS),
        "sketch": sketches,
        "sketch_scale": scale,
        **passage_forms.convert(rows, quantization.to_sketch),
        "text_bytes": rows["text_bytes"] if of_warm else pc.cast(pc.binary_length(rows["text"]), pa.int32()),
        **constants(move, rows.num_rows),
    }
    columns = {name: rows[name] for name in rows.schema.names if name not in _DROPPED} | computed
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(COLD.schema.field(name).type) for name in COLD.schema.names], schema=COLD.schema
    )


def floats(rows: pa.RecordBatch, numbers: np.ndarray) -> np.ndarray:
    """The vectors of hot or warm rows at the positions `numbers`, all of one length: (numbers, dimensions) float32."""
    positions = pa.array(numbers)
    if "vector_scale" in rows.schema.names:
        scale = rows["vector_scale"].take(positions).to_numpy(zero_copy_only=False)
        return quantization.from_int8(quantization.matrix(rows["vector"].take(positions), "i1"), scale)
    return quantization.matrix(rows["vector"].take(positions), "<f2").astype(np.float32)


class DailyMetrics:
    """Counts of the rows that pass through `tee`, by system, kind, project and category."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []

    def tee(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the cold batches unchanged and counts their rows."""
        for batch in batches:
            facts = {name: batch[name] for name in (*_METRICS_BY, "text_bytes", "importance", "sketch")}
            grouped = pa.table(facts).group_by(_METRICS_BY)
            self._parts.append(
                grouped.aggregate(
                    [
                        ([], "count_all"),
                        ("sketch", "count"),
                        ("text_bytes", "sum"),
                        ("importance", "sum"),
                        ("importance", "count"),
                    ]
                )
            )
            yield batch

    def table(self) -> pa.Table:
        """One row per group."""
        if not self._parts:
            return DAILY_METRICS.schema.empty_table()
        sums = ["count_all", "sketch_count", "text_bytes_sum", "importance_sum", "importance_count"]
        total = pa.concat_tables(self._parts).group_by(_METRICS_BY).aggregate([(name, "sum") for name in sums])
        count = pc.cast(total["importance_count_sum"], pa.float64())
        divisor = pc.if_else(pc.equal(count, 0), pa.scalar(None, pa.float64()), count)
        mean = pc.divide(total["importance_sum_sum"], divisor)
        columns = [total[name] for name in _METRICS_BY]
        columns += [total["count_all_sum"], total["sketch_count_sum"], total["text_bytes_sum_sum"], mean]
        return pa.table(
            [column.cast(field.type) for column, field in zip(columns, DAILY_METRICS.schema, strict=True)],
            schema=DAILY_METRICS.schema,
        )


def _sketches(rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Sketches, (rows,) binary, and their scales, (rows,) float32; null where a row has no vector."""
    groups = []
    scales = np.zeros(rows.num_rows, np.float32)
    for numbers in quantization.by_length(rows["vector"]):
        sketches, scales[numbers] = quantization.to_sketch(floats(rows, numbers))
        groups.append((numbers, sketches))
    absent = pc.is_null(rows["vector"]).to_numpy(zero_copy_only=False)
    return quantization.scatter(rows.num_rows, groups), pa.array(scales, mask=absent)

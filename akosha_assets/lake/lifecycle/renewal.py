"""Rows that have moved, made anew where what is left of them allows it: summaries by the present method, missing vectors.

A summary is made again from the whole text, so only where warm keeps it. A vector is made from the whole text where it
is kept, else from the summary, and quantised as its tier wants. What is gone is not guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.lifecycle import cold, populations, quantization, warm
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.policy import WARM, TierPolicy


@dataclass(frozen=True)
class Renewed:
    """What renewing a day did."""

    event_day: date
    tier: str
    rows_resummarised: int
    rows_embedded: int


def renewable(lake: Lake, tier: str, policy: TierPolicy, *, first: date, last: date, is_embedding: bool) -> dict[date, tuple[int, int]]:
    """By day from `first` to `last`: rows whose summary can be made anew, and rows that can get a vector."""
    between = f"event_day >= '{first}' AND event_day <= '{last}'"
    stale = _per_day(lake, tier, f"{between} AND text IS NOT NULL AND summary_method <> '{policy.summary_method}'") if tier == WARM else {}
    bare = _per_day(lake, tier, f"{between} AND space IS NULL") if is_embedding else {}
    return {day: (stale.get(day, 0), bare.get(day, 0)) for day in sorted({*stale, *bare})}


def renew_day(
    lake: Lake, tier: str, event_day: date, *, policy: TierPolicy, renewed_at: datetime, run: str, embedder: Embedder | None
) -> Renewed:
    """Rows of `event_day` in `tier`, which is warm or cold, have present summaries and, with an `embedder`, a vector.

    Raises:
        TableContended: the day was touched meanwhile; nothing was changed.
    """
    table, spec = lake.create(address(tier)), lake.spec(address(tier))
    stale, bare = renewable(lake, tier, policy, first=event_day, last=event_day, is_embedding=embedder is not None).get(event_day, (0, 0))
    if stale or bare:
        move = warm.Move(policy, renewed_at, run)

        def renewed() -> Iterator[pa.RecordBatch]:
            for batch in populations.rebatched(days.stream(table, spec, spec.schema.names, days.predicate(event_day))):
                rows = warm.resummarised(batch, move) if stale else batch
                yield _embedded(rows, tier, embedder) if embedder is not None else rows

        days.replace(table, spec, renewed(), days.predicate(event_day), writer=f"age/{event_day}", metadata={"akosha_op": "renew"})
    return Renewed(event_day, tier, stale, bare)


def _embedded(rows: pa.RecordBatch, tier: str, embedder: Embedder) -> pa.RecordBatch:
    """The rows with a vector where they had none."""
    bare = np.flatnonzero(pc.is_null(rows["space"]).to_numpy(zero_copy_only=False))
    if not len(bare):
        return rows
    texts = pc.coalesce(rows["text"], rows["summary"]) if tier == WARM else rows["summary"]
    vectors = embedder.embed(texts.take(pa.array(bare)).to_pylist())
    made, scale = quantization.to_int8(vectors) if tier == WARM else quantization.to_sketch(vectors)
    form, measure = cold.SKETCH_COLUMNS if tier != WARM else ("vector", "vector_scale")
    scales = np.zeros(rows.num_rows, np.float32)
    scales[bare] = scale
    absent = np.ones(rows.num_rows, bool)
    absent[bare] = False
    columns = {
        form: pc.coalesce(rows[form], quantization.scattered(rows.num_rows, [(bare, made)])),
        measure: pc.coalesce(rows[measure], pa.array(scales, mask=absent)),
        "space": pc.fill_null(rows["space"], embedder.space),
    }
    return pa.RecordBatch.from_arrays([columns.get(name, rows[name]) for name in rows.schema.names], schema=rows.schema)


def _per_day(lake: Lake, tier: str, where: str) -> dict[date, int]:
    found = lake.select(address(tier), ["event_day"], where)
    return {entry["values"]: entry["counts"] for entry in found["event_day"].value_counts().to_pylist()}

"""The recall gate: measures the recall of a day in its next form before the day moves.

Each day has stored probes in `lifecycle/probes`: vectors of its own rows. Each probe is searched in the old form and in
the new one, without its own row; passages of long texts are searched like rows. A result is a hit if it is at least as
similar as the old tenth result; recall@10 is the share of hits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days, tables
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.errors import RecallBelowPolicy
from akosha_assets.lake.lifecycle import cold, day_rows, passage_forms, quantization
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.lifecycle_tables import PROBES
from akosha_assets.lake.tiers import Tier

NEIGHBOURS = 10
# With fewer vectors nearly all are among the ten nearest, and recall means nothing.
MIN_VECTORS = 100
# Rows with the same text have the same vector; their order is not a loss.
_TIE = 1e-5

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recall:
    """recall@10 of `probes` queries over `vectors` vectors; None if there were too few."""

    at_10: float | None
    probes: int
    vectors: int


@dataclass
class NearestRows:
    """The ten nearest rows to each probe of one space, in the old and in the new form, over the batches seen so far."""

    # (probes, dimensions) float32
    queries: np.ndarray
    # (probes,) string: keys of the probes' own rows
    keys: pa.Array
    vectors: int = 0
    # Of each batch (probes, 10) float32: scores in the old form.
    old: list[np.ndarray] = field(default_factory=list)
    # Of each batch (2, probes, 10) float32: scores in the new form, and in the old form of the same rows.
    new: list[np.ndarray] = field(default_factory=list)

    def add(self, vectors: np.ndarray, keys: pa.Array, approximate: Scores) -> None:
        """Adds the vectors of a batch. `vectors`: (vectors, dimensions) float32; `keys`: (vectors,) string, the row of
        each.
        """
        exact = self.queries @ vectors.T
        estimated = approximate(self.queries, vectors)
        own = pc.fill_null(pc.index_in(keys, value_set=self.keys), -1).to_numpy(zero_copy_only=False)
        columns = np.flatnonzero(own >= 0)
        exact[own[columns], columns] = estimated[own[columns], columns] = -np.inf
        self.vectors += len(vectors)
        top = _largest(exact)
        self.old.append(np.take_along_axis(exact, top, axis=1))
        top = _largest(estimated)
        scores = [np.take_along_axis(estimated, top, axis=1), np.take_along_axis(exact, top, axis=1)]
        self.new.append(np.stack(scores))

    def recall(self) -> float:
        """The share of the new form's ten results that are as near as the old form's tenth."""
        old = np.concatenate(self.old, axis=1)
        tenth = np.sort(old, axis=1)[:, -NEIGHBOURS]
        estimated, exact = np.concatenate(self.new, axis=2)
        results = np.take_along_axis(exact, _largest(estimated), axis=1)
        return float((results >= tenth[:, None] - _TIE).mean())


def gate(handles: TableCache, day: date, tier: str, sources: Sequence[day_rows.Source], policy: TierPolicy) -> Recall:
    """The recall of the rows of `day` in `sources` in the form of `tier`.

    Raises:
        RecallBelowPolicy: it is below the policy.
    """
    measured = measure(handles, day, tier, sources, policy)
    required = policy.required_recall(tier)
    if measured.at_10 is not None and measured.at_10 < required:
        raise RecallBelowPolicy(day, tier, measured.at_10, required, measured.probes)
    return measured


def measure(
    handles: TableCache, day: date, tier: str, sources: Sequence[day_rows.Source], policy: TierPolicy
) -> Recall:
    """recall@10 of the form that the rows of `day` in `sources` would have in `tier`."""
    if not policy.recall_probes or sum(source.rows_of.get(day, 0) for source in sources) < MIN_VECTORS:
        return Recall(None, 0, 0)
    probes = _probes(handles, day, sources, policy.recall_probes)
    by_space = {
        space: NearestRows(_floats(of_space["vector"]), day_rows.keys(of_space))
        for space in pc.unique(probes["space"]).to_pylist()
        if len(of_space := probes.filter(pc.equal(probes["space"], space)))
    }
    for source in sources:
        columns = [*IDENTITY, "space", "vector", *_scale_column(source), *passage_forms.columns(source.spec.schema)]
        batches = days.stream(source.table, source.spec, columns, days.predicate(day, "vector IS NOT NULL"))
        _add(by_space, batches, _int8 if tier == Tier.WARM else _sketch)
    usable = [nearest for nearest in by_space.values() if nearest.vectors >= MIN_VECTORS]
    vectors = sum(nearest.vectors for nearest in by_space.values())
    if not usable:
        return Recall(None, 0, vectors)
    weights = [len(nearest.queries) for nearest in usable]
    return Recall(float(np.average([nearest.recall() for nearest in usable], weights=weights)), sum(weights), vectors)


def _scale_column(source: day_rows.Source) -> list[str]:
    return ["vector_scale"] if "vector_scale" in source.spec.schema.names else []


def _add(by_space: dict[str, NearestRows], batches: Iterable[pa.RecordBatch], approximate: Scores) -> None:
    for batch in batches:
        for space, nearest in by_space.items():
            rows = batch.filter(pc.equal(batch["space"], space))
            for numbers in quantization.by_length(rows["vector"]):
                floats = cold.floats(rows, numbers)
                if floats.shape[1] == nearest.queries.shape[1]:
                    nearest.add(floats, day_rows.keys(rows).take(pa.array(numbers)), approximate)
                    passages, of_row = passage_forms.floats(rows, numbers)
                    if len(passages):
                        nearest.add(passages, day_rows.keys(rows).take(pa.array(of_row)), approximate)


def _probes(handles: TableCache, day: date, sources: Sequence[day_rows.Source], count: int) -> pa.Table:
    """The stored probes of the day; a day without probes gets a sample of `count` of its rows."""
    table = handles.create(address("probes"))
    if day_rows.count_rows(table, [day]):
        return tables.select(table, PROBES.schema.names, PROBES.schema, days.predicate(day))
    sampled = []
    for source in sources:
        # The content hash samples at random, and the same rows each time.
        every = max(1, source.rows_of.get(day, 0) // (4 * count))
        where = days.predicate(day, f"vector IS NOT NULL AND content_hash % {every} = 0")
        columns = [*IDENTITY, "event_day", "vector", "space", "content_hash", *_scale_column(source)]
        for batch in days.stream(source.table, source.spec, columns, where):
            for numbers in quantization.by_length(batch["vector"]):
                rows = batch.take(pa.array(numbers))
                floats = cold.floats(rows, np.arange(len(numbers)))
                vectors = quantization.scatter(len(numbers), [(np.arange(len(numbers)), floats.astype("<f2"))])
                sampled.append(pa.table({**{name: rows[name] for name in rows.schema.names}, "vector": vectors}))
    if not sampled:
        return PROBES.schema.empty_table()
    sample = pa.concat_tables([part.select([*PROBES.schema.names, "content_hash"]) for part in sampled])
    probes = sample.sort_by("content_hash").slice(0, count).select(PROBES.schema.names).cast(PROBES.schema)
    batches, where = probes.to_batches(), days.predicate(day)
    days.replace(table, PROBES, batches, where, writer=f"probes/{day}", metadata={"akosha_op": "probe"})
    return probes


def _int8(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    scores: np.ndarray = queries @ quantization.from_int8(*quantization.to_int8(vectors)).T
    return scores


def _sketch(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return quantization.sketch_scores(queries, *quantization.to_sketch(vectors))


def _largest(scores: np.ndarray) -> np.ndarray:
    """Columns of the ten largest scores of each row, (rows, 10) int64; of equal scores the leftmost first."""
    if scores.shape[1] > 8 * NEIGHBOURS:
        best = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]


def _floats(vectors: pa.ChunkedArray) -> np.ndarray:
    return quantization.matrix(vectors.combine_chunks(), "<f2").astype(np.float32)

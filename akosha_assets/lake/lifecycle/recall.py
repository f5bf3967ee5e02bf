"""The recall gate: what a day still finds in its next form, asked before the day moves.

Each day has a stored probe set in `lifecycle/probes`: vectors of its own rows. Each probe is asked of the old form and
of the new one, itself left out, and recall@10 says how many of the new answers are as near as the tenth of the old.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from akosha_assets.lake import days, tables
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.errors import RecallBelowPolicy
from akosha_assets.lake.lifecycle import cold, day_rows, quantization
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.policy import WARM, TierPolicy
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.lifecycle_tables import PROBES
from akosha_assets.lake.table_spec import TableSpec

NEIGHBOURS = 10
# Under this many vectors nearly everything is among the ten nearest, and the figure says nothing.
MIN_VECTORS = 100
# Two rows of the same text have the same vector; which of them is named first is no loss.
_TIE = 1e-5

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recall:
    """recall@10 over `probes` questions among `vectors`; None where there was too little to ask."""

    at_10: float | None
    probes: int
    vectors: int


@dataclass
class NearestRows:
    """Running answers to the probes of one space: the nearest of the old form, and of the new form with their old
    scores.
    """

    questions: np.ndarray
    keys: pa.Array
    vectors: int = 0
    old: list[np.ndarray] = field(default_factory=list)
    new: list[np.ndarray] = field(default_factory=list)

    def ask(self, vectors: np.ndarray, keys: pa.Array, approximate: Scores) -> None:
        """Take `vectors`, whose rows are named by `keys`, into account."""
        exact = self.questions @ vectors.T
        rough = approximate(self.questions, vectors)
        own = pc.fill_null(pc.index_in(keys, value_set=self.keys), -1).to_numpy(zero_copy_only=False)
        columns = np.flatnonzero(own >= 0)
        exact[own[columns], columns] = rough[own[columns], columns] = -np.inf
        self.vectors += len(vectors)
        top = _largest(exact)
        self.old.append(np.take_along_axis(exact, top, axis=1))
        top = _largest(rough)
        self.new.append(np.stack([np.take_along_axis(rough, top, axis=1), np.take_along_axis(exact, top, axis=1)]))

    def recall(self) -> float:
        """The share of the new form's ten answers that are as near as the old form's tenth."""
        old = np.concatenate(self.old, axis=1)
        tenth = np.sort(old, axis=1)[:, -NEIGHBOURS]
        rough, exact = np.concatenate(self.new, axis=2)
        answers = np.take_along_axis(exact, _largest(rough), axis=1)
        return float((answers >= tenth[:, None] - _TIE).mean())


def gate(
    handles: TableCache, day: date, tier: str, sources: list[tuple[DeltaTable, TableSpec]], policy: TierPolicy
) -> Recall:
    """The day may move to `tier`: its new form answers as the policy wants.

    Raises:
        RecallBelowPolicy: it does not.
    """
    found = measure(handles, day, tier, sources, policy)
    if found.at_10 is not None and found.at_10 < policy.required_recall(tier):
        raise RecallBelowPolicy(day, tier, found.at_10, policy.required_recall(tier), found.probes)
    return found


def measure(
    handles: TableCache, day: date, tier: str, sources: list[tuple[DeltaTable, TableSpec]], policy: TierPolicy
) -> Recall:
    """recall@10 of the form that the rows of `day` in `sources` would have in `tier`."""
    if not policy.recall_probes or sum(day_rows.rows_of(table, day) for table, _ in sources) < MIN_VECTORS:
        return Recall(None, 0, 0)
    probes = _probes(handles, day, sources, policy.recall_probes)
    by_space = {
        space: NearestRows(_floats(chosen["vector"]), day_rows.keys(chosen))
        for space in pc.unique(probes["space"]).to_pylist()
        if len(chosen := probes.filter(pc.equal(probes["space"], space)))
    }
    for table, spec in sources:
        columns = [*IDENTITY, "space", "vector", *(["vector_scale"] if "vector_scale" in spec.schema.names else [])]
        _ask(
            by_space,
            days.stream(table, spec, columns, days.predicate(day, "vector IS NOT NULL")),
            _int8 if tier == WARM else _sketch,
        )
    asked = [nearest for nearest in by_space.values() if nearest.vectors >= MIN_VECTORS]
    vectors = sum(nearest.vectors for nearest in by_space.values())
    if not asked:
        return Recall(None, 0, vectors)
    weights = [len(nearest.questions) for nearest in asked]
    return Recall(float(np.average([nearest.recall() for nearest in asked], weights=weights)), sum(weights), vectors)


def _ask(by_space: dict[str, NearestRows], batches: Iterable[pa.RecordBatch], approximate: Scores) -> None:
    for batch in batches:
        for space, nearest in by_space.items():
            rows = batch.filter(pc.equal(batch["space"], space))
            for numbers in quantization.by_length(rows["vector"]):
                floats = cold.floats(rows, numbers)
                if floats.shape[1] == nearest.questions.shape[1]:
                    nearest.ask(floats, day_rows.keys(rows).take(pa.array(numbers)), approximate)


def _probes(handles: TableCache, day: date, sources: list[tuple[DeltaTable, TableSpec]], wanted: int) -> pa.Table:
    """The day's stored probes; a day without any gets a sample of its rows."""
    kept = handles.create(address("probes"))
    if day_rows.rows_of(kept, day):
        return tables.select(kept, PROBES.schema.names, PROBES.schema, days.predicate(day))
    sampled = []
    for table, spec in sources:
        lying = days.stored(table).get(day)
        if lying is None:
            continue
        # The content hash is as good as a throw of dice, and throws the same again.
        where = days.predicate(day, f"vector IS NOT NULL AND content_hash % {max(1, lying.rows // (4 * wanted))} = 0")
        columns = [*IDENTITY, "event_day", "vector", "space", "content_hash"]
        columns += ["vector_scale"] if "vector_scale" in spec.schema.names else []
        for batch in days.stream(table, spec, columns, where):
            for numbers in quantization.by_length(batch["vector"]):
                rows = batch.take(pa.array(numbers))
                floats = cold.floats(rows, np.arange(len(numbers)))
                vectors = quantization.scattered(len(numbers), [(np.arange(len(numbers)), floats.astype("<f2"))])
                sampled.append(pa.table({**{name: rows[name] for name in rows.schema.names}, "vector": vectors}))
    if not sampled:
        return PROBES.schema.empty_table()
    every = pa.concat_tables([part.select([*PROBES.schema.names, "content_hash"]) for part in sampled])
    probes = every.sort_by("content_hash").slice(0, wanted).select(PROBES.schema.names).cast(PROBES.schema)
    days.replace(
        kept, PROBES, probes.to_batches(), days.predicate(day), writer=f"probes/{day}", metadata={"akosha_op": "probe"}
    )
    return probes


def _int8(questions: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    scores: np.ndarray = questions @ quantization.from_int8(*quantization.to_int8(vectors)).T
    return scores


def _sketch(questions: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return quantization.sketch_scores(questions, *quantization.to_sketch(vectors))


def _largest(scores: np.ndarray) -> np.ndarray:
    """Columns of the ten largest of each row, the leftmost first where they are equal."""
    if scores.shape[1] > 8 * NEIGHBOURS:
        best = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]


def _floats(vectors: pa.ChunkedArray) -> np.ndarray:
    return quantization.matrix(vectors.combine_chunks(), "<f2").astype(np.float32)

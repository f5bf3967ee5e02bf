"""Measures the relevance of each ranking with the judged queries of the simulated fleet."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akosha_assets.bench import runs
from akosha_assets.fleet.systems import FleetPlan, history
from akosha_assets.fleet.topics import JudgedQuery, judged_queries, topic_of
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence

K = 10
MODES = ("keyword", "semantic", "hybrid")
CONSTANTS = (5, 10, 20, 60)
KEYWORD_WEIGHTS = (0.3, 0.5, 0.6, 0.7, 1.0)


class _Remembering(Embedder):
    """Caches the vector of each text: every ranking runs the same queries."""

    def __init__(self, embedder: Embedder):
        self._embedder, self.space, self.dimensions = embedder, embedder.space, embedder.dimensions
        self._known: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """As `Embedder`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._embedder.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def run(*, systems: int, memories: int, queries: int, sweep: bool, work: Path | None) -> dict[str, Any]:
    """Recall@10, MRR and nDCG@10 of each mode over `queries` judged queries. A result is relevant if its topic is.

    Recall@10 is the number of relevant results divided by that of relevant memories, at most ten. `sweep` adds nDCG@10
    of hybrid search for other weights and constants of the fusion, for all topics and for each half of them: values
    that are best for both halves do not depend on a few queries.
    """
    embedder = _Remembering(Embedder.load(LakeSettings()))
    plan = FleetPlan(systems=systems, memories=memories, now=datetime.now(UTC), fingerprints=False)
    texts = list(dict.fromkeys(_texts(plan, systems)))
    owners = [topic_of(text) for text in texts]
    relevant = {topic: owners.count(topic) for topic in set(owners) if topic is not None}
    judged = [query for query in judged_queries() if any(topic in relevant for topic in query.topic_ids)][:queries]
    with runs.home(work) as settings:
        lake = Lake(settings)
        lake.append(HOT.address, _rows(texts, embedder), Fence("bench", 1), {})
        replica = Replica(lake)
        replica.refresh()
        searcher = Searcher(embedder)
        by_mode = {mode: _scored(replica, searcher, judged, texts, relevant, mode) for mode in MODES}
        swept = _swept(replica, embedder, judged, texts, relevant) if sweep else None
        replica.stop()
    answer: dict[str, Any] = {"queries": len(judged), "memories": len(texts), "topics": len(relevant)}
    for figure in ("recall_at_10", "mrr", "ndcg_at_10"):
        answer[figure] = {mode: by_mode[mode]["all"][figure] for mode in MODES}
    answer["by_style"] = {
        mode: {style: values for style, values in by_mode[mode].items() if style != "all"} for mode in MODES
    }
    if swept is not None:
        answer["sweep"] = swept
    return answer | {"space": embedder.space, "machine": runs.machine()}


def _texts(plan: FleetPlan, systems: int) -> list[str]:
    return [
        row["content"]
        for system in range(systems)
        for table in ("conversations_v2", "reflections_v2")
        for row in history(plan, system)[0].tables.get(table, [])
    ]


def _rows(texts: list[str], embedder: Embedder) -> pa.Table:
    now = datetime.now(UTC).replace(microsecond=0)
    fixed = {
        "system_id": "bench",
        "kind": "conversation",
        "event_day": now.date(),
        "occurred_at": now,
        "occurred_from": "column",
        "space": embedder.space,
        "source_table": "conversations_v2",
        "upload_id": "bench",
        "object_key": "bench",
        "object_etag": "bench",
        "snapshot_at": now,
        "arrived_at": now,
        "batch_id": 1,
        "parser_version": 1,
    }
    vectors = as_stored(embedder.embed(texts))
    rows = [
        fixed | {"id": str(number), "text": text, "vector": vector, "content_hash": number}
        for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    return pa.Table.from_pylist(rows, HOT.schema)


def _swept(
    replica: Replica, embedder: Embedder, judged: list[JudgedQuery], texts: list[str], relevant: dict[str, int]
) -> list[dict[str, float]]:
    topics = sorted({query.topic_ids[0] for query in judged})
    halves = [[query for query in judged if topics.index(query.topic_ids[0]) % 2 == half] for half in (0, 1)]
    found = []
    for constant in CONSTANTS:
        searcher = Searcher(embedder, fusion_constant=constant)
        for weight in KEYWORD_WEIGHTS:
            figures = [
                _scored(replica, searcher, some, texts, relevant, "hybrid", (1.0, weight))["all"]["ndcg_at_10"]
                for some in (judged, *(half for half in halves if half))
            ]
            names = ("ndcg_at_10", "of_one_half", "of_the_other")
            found.append(
                {"rrf_constant": constant, "keyword_weight": weight, **dict(zip(names, figures, strict=False))}
            )
    return found


def _scored(
    replica: Replica,
    searcher: Searcher,
    judged: list[JudgedQuery],
    texts: list[str],
    relevant: dict[str, int],
    mode: str,
    weights: tuple[float, float] | None = None,
) -> dict[str, dict[str, float]]:
    figures: dict[str, list[tuple[float, float, float]]] = {"all": []}
    for query in judged:
        answer = searcher.search(replica.snapshot, Question(text=query.text, mode=mode, limit=K, weights=weights))
        right = np.array([topic_of(texts[int(result["id"])]) in query.topic_ids for result in answer.results], bool)
        possible = min(K, sum(relevant.get(topic, 0) for topic in query.topic_ids))
        first = np.flatnonzero(right)
        discounts = 1 / np.log2(np.arange(2, K + 2))
        ndcg = float(discounts[: len(right)][right].sum() / discounts[:possible].sum())
        found = (float(right.sum()) / possible, 1 / (1 + int(first[0])) if len(first) else 0.0, ndcg)
        figures["all"].append(found)
        figures.setdefault(query.style, []).append(found)
    means = {style: np.mean(values, axis=0).round(3).tolist() for style, values in figures.items()}
    return {style: dict(zip(("recall_at_10", "mrr", "ndcg_at_10"), mean, strict=True)) for style, mean in means.items()}

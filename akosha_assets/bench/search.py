"""Measures latency and recall of searches in one process, and of LanceDB and DuckDB on the same vectors."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from akosha_assets.bench import peers as others
from akosha_assets.bench import runs
from akosha_assets.bench.corpus import real_vectors, widened
from akosha_assets.bench.hot_lake import fill
from akosha_assets.bench.peers import K, percentiles, timed
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.serving.query import Filters, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Answer, Searcher
from akosha_assets.lake.serving.vectors.nearest import Selected, nearest, threads
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from akosha_assets.lake.serving.vectors.vector_set import top_k
from akosha_assets.lake.settings import LakeSettings


def run(
    *, vectors: int, queries: int, real: int, peers: bool, systems: int, work: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fill a hot table with `vectors` rows, load it, and run `queries` held-out real vectors, one at a time.

    Recall is against an exact scan of the same stored vectors. Searches return complete results and do not collapse
    near-duplicates, because recall counts neighbours; `ids_only` is the vector search alone. Peers return ids and
    distances.
    """
    say("embedding")
    known, texts, space = real_vectors(LakeSettings(), real)
    query_vectors, base = known[:queries], known[queries:]
    stored = widened(base, vectors)
    truth = _exact(stored, query_vectors)
    with runs.home(work) as settings:
        lake = Lake(settings)
        say("writing the table")
        fill(lake, stored, texts, space, systems=systems, on_rows=lambda _: None)
        say("loading")
        replica = Replica(lake)
        started = time.perf_counter()
        replica.refresh()
        load_seconds = time.perf_counter() - started
        say("asking")
        answer = {
            "vectors": vectors,
            "vectors_real": min(len(base), vectors),
            "queries": queries,
            **_measured(replica, query_vectors, truth),
            "ids_only": _ids_only(replica, query_vectors, truth, space),
            "build_rows_per_second": _build_rate(replica, space),
            "load_and_index_seconds": round(load_seconds, 1),
            "one_system": _filtered(replica, query_vectors, stored, systems),
            "keyword": _keyword(replica, texts[:queries]),
            "rss_bytes": runs.rss_bytes(),
        }
        replica.stop()
        if peers:
            say("peers")
            answer["peers"] = {
                "lancedb": others.lancedb(stored, query_vectors, truth, settings.home),
                "duckdb": others.duckdb(stored, query_vectors, truth),
            }
        return answer | {"machine": runs.machine()}


def _measured(replica: Replica, query_vectors: np.ndarray, truth: list[set[int]]) -> dict[str, Any]:
    searcher = Searcher(None)

    def ask(vector: np.ndarray) -> Answer:
        return searcher.search(replica.snapshot, Question(vector=tuple(vector.tolist()), limit=K, collapse=False))

    return timed(lambda vector: {int(result["id"]) for result in ask(vector).results}, query_vectors, truth)


def _ids_only(replica: Replica, query_vectors: np.ndarray, truth: list[set[int]], space: str) -> dict[str, float]:
    parts = replica.snapshot.tiers["hot"].parts
    sets: list[Selected] = [(part.vectors[space], None) for part in parts]

    def ask(vector: np.ndarray) -> set[int]:
        owners, rows, _ = nearest(sets, vector, K)
        return {
            int(parts[owner].payload.value("id", row))
            for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)
        }

    return timed(ask, query_vectors, truth)


def _exact(stored: np.ndarray, query_vectors: np.ndarray) -> list[set[int]]:
    best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in query_vectors]
    for start in range(0, len(stored), 50_000):
        scores = query_vectors @ stored[start : start + 50_000].astype(np.float32).T
        for row, found in enumerate(scores):
            joined = np.concatenate([best[row][0], found])
            ids = np.concatenate([best[row][1], np.arange(start, start + len(found))])
            order = top_k(joined, K)
            best[row] = joined[order], ids[order]
    return [set(ids.tolist()) for _, ids in best]


def _build_rate(replica: Replica, space: str) -> int | None:
    """Vectors indexed per second; None if every part is too small for an index."""
    sets = [
        part.vectors[space] for part in replica.snapshot.tiers["hot"].parts if part.vectors[space].index is not None
    ]
    if not sets:
        return None
    started = time.perf_counter()
    quantizers = CoarseQuantizers()
    quantizers.expect(sum(len(vector_set) for vector_set in sets))
    list(threads().map(lambda vector_set: replace(vector_set, index=None).with_index(space, quantizers), sets))
    return round(sum(len(vector_set) for vector_set in sets) / (time.perf_counter() - started))


def _filtered(replica: Replica, query_vectors: np.ndarray, stored: np.ndarray, systems: int) -> dict[str, Any]:
    mine = np.arange(0, len(stored), systems)
    truth = [set(mine[top_k(stored[mine].astype(np.float32) @ vector, K)].tolist()) for vector in query_vectors]
    searcher = Searcher(None)
    filters = Filters(equals={"system_id": ("system-00000",)})

    def ask(vector: np.ndarray) -> set[int]:
        answer = searcher.search(
            replica.snapshot, Question(vector=tuple(vector.tolist()), limit=K, filters=filters, collapse=False)
        )
        return {int(result["id"]) for result in answer.results}

    return {"rows": len(mine), **timed(ask, query_vectors, truth)}


def _keyword(replica: Replica, texts: list[str]) -> dict[str, float]:
    searcher = Searcher(None)
    seconds = []
    for text in texts:
        words = " ".join(text.split()[2:7])
        started = time.perf_counter()
        searcher.search(replica.snapshot, Question(text=words, mode="keyword", limit=K))
        seconds.append(time.perf_counter() - started)
    return percentiles(seconds)

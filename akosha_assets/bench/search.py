"""How fast and how right a search is in one process, beside LanceDB and DuckDB on the same vectors in the same run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.bench import runs
from akosha_assets.bench.corpus import real_vectors, widened
from akosha_assets.bench.hot_lake import fill
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.serving.neighbours import threads
from akosha_assets.lake.serving.query import Filters, Question
from akosha_assets.lake.serving.replica import Replica
from akosha_assets.lake.serving.search import Answer, Searcher
from akosha_assets.lake.serving.vectors import top
from akosha_assets.lake.settings import LakeSettings

K = 10


def run(
    *, vectors: int, queries: int, real: int, peers: bool, systems: int, work: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fill a hot table with `vectors` rows, load it, and ask `queries` held-out real vectors, one at a time.

    Recall is against an exact scan of the same stored vectors. Peers get them too, and answer with ids alone; the product
    answers with whole results, near-duplicates not folded, since it is neighbours that are counted.
    """
    say("embedding")
    known, texts, space = real_vectors(LakeSettings(), real)
    asked, base = known[:queries], known[queries:]
    stored = widened(base, vectors)
    truth = _exact(stored, asked)
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
            **_measured(replica, asked, truth),
            "build_rows_per_second": _build_rate(replica, space),
            "load_and_index_seconds": round(load_seconds, 1),
            "one_system": _filtered(replica, asked, stored, systems),
            "keyword": _keyword(replica, texts[:queries]),
            "rss_bytes": runs.rss_bytes(),
        }
        replica.stop()
        if peers:
            say("peers")
            answer["peers"] = {"lancedb": _lancedb(stored, asked, truth, settings.home), "duckdb": _duckdb(stored, asked, truth)}
        return answer | {"machine": runs.machine()}


def _measured(replica: Replica, asked: np.ndarray, truth: list[set[int]]) -> dict[str, Any]:
    searcher = Searcher(None)

    def ask(vector: np.ndarray) -> Answer:
        return searcher.search(replica.snapshot, Question(vector=tuple(vector.tolist()), limit=K, collapse=False))

    return _timed(lambda vector: {int(result["id"]) for result in ask(vector).results}, asked, truth)


def _timed(ask: Callable[[np.ndarray], set[int]], asked: np.ndarray, truth: list[set[int]]) -> dict[str, Any]:
    ask(asked[0])
    hits, seconds = 0, []
    for vector, right in zip(asked, truth, strict=True):
        started = time.perf_counter()
        found = ask(vector)
        seconds.append(time.perf_counter() - started)
        hits += len(found & right)
    return {"recall_at_10": round(hits / (K * len(truth)), 4), **percentiles(seconds)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    return {"p50_ms": round(float(np.percentile(seconds, 50)) * 1000, 2), "p99_ms": round(float(np.percentile(seconds, 99)) * 1000, 2)}


def _exact(stored: np.ndarray, asked: np.ndarray) -> list[set[int]]:
    best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in asked]
    for start in range(0, len(stored), 50_000):
        scores = asked @ stored[start : start + 50_000].astype(np.float32).T
        for row, found in enumerate(scores):
            joined = np.concatenate([best[row][0], found])
            ids = np.concatenate([best[row][1], np.arange(start, start + len(found))])
            kept = top(joined, K)
            best[row] = joined[kept], ids[kept]
    return [set(ids.tolist()) for _, ids in best]


def _build_rate(replica: Replica, space: str) -> int | None:
    """Vectors a second; None where every part is too small for an index."""
    sets = [part.vectors[space] for part in replica.snapshot.tiers["hot"].parts if part.vectors[space].index is not None]
    if not sets:
        return None
    started = time.perf_counter()
    list(threads().map(lambda held: type(held)(held.rows, held.matrix).indexed(), sets))
    return round(sum(len(held) for held in sets) / (time.perf_counter() - started))


def _filtered(replica: Replica, asked: np.ndarray, stored: np.ndarray, systems: int) -> dict[str, Any]:
    mine = np.arange(0, len(stored), systems)
    truth = [set(mine[top(stored[mine].astype(np.float32) @ vector, K)].tolist()) for vector in asked]
    searcher = Searcher(None)
    filters = Filters({"system_id": ("system-00000",)})

    def ask(vector: np.ndarray) -> set[int]:
        answer = searcher.search(replica.snapshot, Question(vector=tuple(vector.tolist()), limit=K, filters=filters, collapse=False))
        return {int(result["id"]) for result in answer.results}

    return {"rows": len(mine), **_timed(ask, asked, truth)}


def _keyword(replica: Replica, texts: list[str]) -> dict[str, float]:
    searcher = Searcher(None)
    seconds = []
    for text in texts:
        words = " ".join(text.split()[2:7])
        started = time.perf_counter()
        searcher.search(replica.snapshot, Question(text=words, mode="keyword", limit=K))
        seconds.append(time.perf_counter() - started)
    return percentiles(seconds)


def _lancedb(stored: np.ndarray, asked: np.ndarray, truth: list[set[int]], folder: Path) -> dict[str, Any]:
    import lancedb

    table = lancedb.connect(str(folder / "lancedb")).create_table("hot", _arrow(stored))
    started = time.perf_counter()
    table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_RQ")
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {}
    # The least refinement that reaches the recall of the product's promise; the last one where none does.
    for refine in (5, 10, 20, 40):

        def ask(vector: np.ndarray, refine: int = refine) -> set[int]:
            query: Any = table.search(vector).select(["id", "_distance"]).limit(K)
            return set(query.refine_factor(refine).nprobes(64).to_arrow()["id"].to_pylist())

        found = {"index": "IVF_RQ", "refine": refine, **_timed(ask, asked, truth)}
        if found["recall_at_10"] >= 0.99:
            break
    return found | {"build_rows_per_second": round(len(stored) / seconds)}


def _duckdb(stored: np.ndarray, asked: np.ndarray, truth: list[set[int]]) -> dict[str, Any]:
    with duckdb.connect() as connection:
        connection.register("given", _arrow(stored))
        started = time.perf_counter()
        connection.execute(f"CREATE TABLE hot AS SELECT id, vector::FLOAT[{stored.shape[1]}] AS vector FROM given")
        seconds = time.perf_counter() - started
        query = f"SELECT id FROM hot ORDER BY array_inner_product(vector, ?::FLOAT[{stored.shape[1]}]) DESC LIMIT {K}"
        # An exact scan takes long; a few questions show its latency.
        few = min(20, len(asked))
        timed = _timed(lambda vector: {row[0] for row in connection.execute(query, [vector.tolist()]).fetchall()}, asked[:few], truth[:few])
    return {"index": "none, exact scan", **timed, "build_rows_per_second": round(len(stored) / seconds)}


def _arrow(stored: np.ndarray) -> pa.Table:
    floats = pa.FixedSizeListArray.from_arrays(pa.array(stored.astype(np.float32).reshape(-1)), stored.shape[1])
    return pa.table({"id": pa.array(np.arange(len(stored))), "vector": floats})

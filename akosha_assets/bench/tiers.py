"""Measures searches over warm and over cold, and how soon new rows are found in hot under steady commits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from akosha_assets.bench import hot_lake, runs
from akosha_assets.bench.aged_lake import AgedLake
from akosha_assets.bench.corpus import real_vectors, widened, widened_blocks
from akosha_assets.bench.peers import K, percentiles
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.vectors.vector_set import top_k
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence

SYSTEMS = 200
# Seconds between two searches for new rows.
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0


def run(
    *,
    warm: int,
    warm_days: int,
    cold: int,
    cold_days: int,
    fresh: int,
    fresh_seconds: int,
    queries: int,
    real: int,
    words: bool,
    work: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a warm table of `warm` rows, a cold one of `cold`, and commits to a hot one of `fresh`; 0 skips a part.

    Without `words`, warm and cold have no keyword index, as in a service that has just started.
    """
    say("embedding")
    known, texts, space = real_vectors(LakeSettings(), real)
    corpus = known[:queries], known[queries:], texts, space
    answer: dict[str, Any] = {"queries": queries, "vectors_real": len(known) - queries}
    for tier, rows, days in (("warm", warm, warm_days), ("cold", cold, cold_days)):
        if rows:
            answer[tier] = _aged(tier, rows, days, *corpus, words=words, work=work, say=say)
    if fresh:
        answer["fresh"] = _fresh(fresh, fresh_seconds, *corpus[1:], work=work, say=say)
    return answer | {"machine": runs.machine()}


def _aged(
    tier: str,
    rows: int,
    days: int,
    query_vectors: np.ndarray,
    base: np.ndarray,
    texts: list[str],
    space: str,
    *,
    words: bool,
    work: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Recall against the vectors as the tier stores them, and against the float vectors before aging."""
    with runs.home(work) as settings:
        lake = Lake(settings)
        filled = AgedLake(lake, tier, texts, space, systems=SYSTEMS)
        exact_stored, exact_original = ExactNearest(query_vectors), ExactNearest(query_vectors)
        started, stored = time.perf_counter(), 0
        for block in widened_blocks(base, rows):
            say(f"{tier}: writing row {stored} of {rows}")
            numbers = np.arange(stored, stored + len(block))
            day = numbers * days // rows
            for each in np.unique(day):
                stored_vectors = filled.append(numbers[day == each], block[day == each], int(each))
                exact_stored.scan(numbers[day == each], stored_vectors)
            exact_original.scan(numbers, block)
            stored += len(block)
        written = time.perf_counter() - started
        say(f"{tier}: loading")
        replica = Replica(lake)
        started = time.perf_counter()
        if words:
            replica.refresh()
        else:
            _load_vectors(replica, tier)
        loaded = time.perf_counter() - started
        say(f"{tier}: asking")
        answer = {"rows": rows, "days": days, **_measure_queries(replica, query_vectors, exact_stored, exact_original)}
        if words:
            answer |= _by_words(replica, texts, len(query_vectors))
        if tier == "cold":
            # Cold stores no vectors; recall is against the floats that its sketches were made from.
            answer["recall_at_10"] = answer.pop("recall_at_10_of_floats")
            answer["scores"] = "estimates: ranked by sketches alone"
        replica.stop()
        return answer | {
            "fill_seconds": round(written, 1),
            "load_and_index_seconds": round(loaded, 1),
            "rss_bytes": runs.rss_bytes(),
            "anonymous_bytes": runs.anonymous_bytes(),
        }


def _load_vectors(replica: Replica, tier: str) -> None:
    """Waits until the tier answers by vector; the replica builds no keyword index."""
    replica.start()
    while replica.snapshot.tiers[tier].state != "ready":
        time.sleep(POLL_SECONDS)
    replica.stop()


class ExactNearest:
    """The exact `K` nearest of all scanned vectors, for each query."""

    def __init__(self, query_vectors: np.ndarray):
        self.asked = query_vectors
        self.best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in query_vectors]

    def scan(self, numbers: np.ndarray, vectors: np.ndarray) -> None:
        """Scans these vectors too."""
        for row, scores in enumerate(self.asked @ vectors.T):
            joined = np.concatenate([self.best[row][0], scores])
            order = top_k(joined, K)
            self.best[row] = joined[order], np.concatenate([self.best[row][1], numbers])[order]

    def recall(self, found: list[set[int]]) -> float:
        """The share of the nearest neighbours that were found."""
        right = sum(len(each & set(numbers.tolist())) for each, (_, numbers) in zip(found, self.best, strict=True))
        return round(right / sum(len(numbers) for _, numbers in self.best), 4)


def _measure_queries(
    replica: Replica, query_vectors: np.ndarray, exact_stored: ExactNearest, exact_original: ExactNearest
) -> dict[str, Any]:
    searcher = Searcher(None)
    found: list[set[int]] = []
    seconds: list[float] = []
    # Twice: first with cold pages, as in a service that has just started, then with the pages in memory.
    for _ in range(2):
        found, before, seconds = [], seconds, []
        for vector in query_vectors:
            question = Question(vector=tuple(vector.tolist()), limit=K, collapse=False)
            started = time.perf_counter()
            answer = searcher.search(replica.snapshot, question)
            seconds.append(time.perf_counter() - started)
            found.append({int(result["id"]) for result in answer.results})
    return {
        "recall_at_10": exact_stored.recall(found),
        "recall_at_10_of_floats": exact_original.recall(found),
        **percentiles(seconds),
        "first_round": percentiles(before),
        "approximate": answer.stages["semantic"].approximate,
    }


def _by_words(replica: Replica, texts: list[str], queries: int) -> dict[str, Any]:
    searcher = Searcher(None)
    seconds = []
    for text in texts[:queries]:
        question = Question(text=" ".join(text.split()[2:7]), mode="keyword", limit=K)
        started = time.perf_counter()
        searcher.search(replica.snapshot, question)
        seconds.append(time.perf_counter() - started)
    return {"keyword": percentiles(seconds)}


def _fresh(
    rows: int,
    seconds: int,
    base: np.ndarray,
    texts: list[str],
    space: str,
    *,
    work: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Seconds from a commit until its last row is found by keyword and by vector, with a commit each second."""
    batch = 50
    vectors = widened(base, rows + batch * seconds)
    with runs.home(work) as settings:
        lake = Lake(settings)
        say("fresh: writing the table")
        hot_lake.fill(lake, vectors[:rows], texts, space, systems=SYSTEMS, on_rows=lambda _: None)
        say("fresh: loading")
        replica = Replica(lake)
        replica.refresh()
        replica.start()
        waited = []
        begun = time.perf_counter()
        for turn in range(seconds):
            say(f"fresh: commit {turn} of {seconds}")
            time.sleep(max(0.0, begun + turn - time.perf_counter()))
            numbers = np.arange(rows + turn * batch, rows + (turn + 1) * batch)
            own = [f"arrival{number}" for number in numbers]
            new_rows = hot_lake.rows(numbers, vectors[numbers], own, space, SYSTEMS, datetime.now(UTC), turn)
            lake.append(HOT.address, new_rows, Fence("bench-fresh", turn + 1), {})
            waited.append(
                _seconds_until_found(replica, str(new_rows["text"][-1]), vectors[numbers[-1]], str(new_rows["id"][-1]))
            )
        replica.stop()
    return {
        "rows": rows,
        "commits": seconds,
        "rows_per_commit": batch,
        "searchable_seconds_p50": round(float(np.median(waited)), 3),
        "searchable_seconds_max": round(max(waited), 3),
    }


def _seconds_until_found(replica: Replica, words: str, vector: np.ndarray, id: str) -> float:
    searcher = Searcher(None)
    started = time.perf_counter()
    by_words = Question(text=f'"{words}"', mode="keyword", syntax=QuerySyntax.QUERY, limit=1)
    by_meaning = Question(vector=tuple(vector.astype(float).tolist()), limit=1)
    while time.perf_counter() - started < PATIENCE_SECONDS:
        if all(
            [result["id"] for result in searcher.search(replica.snapshot, question).results] == [id]
            for question in (by_words, by_meaning)
        ):
            return time.perf_counter() - started
        time.sleep(POLL_SECONDS)
    raise RuntimeError(
        f"row {id} was committed {PATIENCE_SECONDS:g} s ago and is not found; the replica did not load it"
    )

"""What older memories cost to search, and how soon new ones are found: warm, cold, and hot under a steady ingest."""

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
from akosha_assets.lake.serving.vectors.vector_set import top_k
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence

SYSTEMS = 200
# Seconds between two searches for new rows.
LOOK_SECONDS = 0.02
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
    """Measure a warm table of `warm` rows, a cold one of `cold`, and commits onto a hot one of `fresh`; 0 leaves one
    out.

    Without `words`, warm and cold are asked by meaning alone, as a service answers whose words are not indexed yet.
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
    asked: np.ndarray,
    base: np.ndarray,
    texts: list[str],
    space: str,
    *,
    words: bool,
    work: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Recall counts neighbours among the vectors as the tier holds them, and as they were before aging."""
    with runs.home(work) as settings:
        lake = Lake(settings)
        filled = AgedLake(lake, tier, texts, space, systems=SYSTEMS)
        as_held, as_made = ExactNearest(asked), ExactNearest(asked)
        started, stored = time.perf_counter(), 0
        for block in widened_blocks(base, rows):
            say(f"{tier}: writing row {stored} of {rows}")
            numbers = np.arange(stored, stored + len(block))
            day = numbers * days // rows
            for each in np.unique(day):
                held = filled.append(numbers[day == each], block[day == each], int(each))
                as_held.look(numbers[day == each], held)
            as_made.look(numbers, block)
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
        answer = {"rows": rows, "days": days, **_asked(replica, asked, as_held, as_made)}
        if words:
            answer |= _by_words(replica, texts, len(asked))
        if tier == "cold":
            # It holds no vectors to compare with: all there is are the floats that its sketches were made of.
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
    """The tier answers by meaning; the replica does not go on to its words."""
    replica.start()
    while replica.snapshot.tiers[tier].state != "ready":
        time.sleep(LOOK_SECONDS)
    replica.stop()


class ExactNearest:
    """The exact `K` nearest of all vectors looked at, for each question."""

    def __init__(self, asked: np.ndarray):
        self.asked = asked
        self.best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in asked]

    def look(self, numbers: np.ndarray, vectors: np.ndarray) -> None:
        """These vectors are among those looked at."""
        for row, scores in enumerate(self.asked @ vectors.T):
            joined = np.concatenate([self.best[row][0], scores])
            kept = top_k(joined, K)
            self.best[row] = joined[kept], np.concatenate([self.best[row][1], numbers])[kept]

    def recall(self, found: list[set[int]]) -> float:
        """Share of the nearest that were found."""
        right = sum(len(each & set(numbers.tolist())) for each, (_, numbers) in zip(found, self.best, strict=True))
        return round(right / sum(len(numbers) for _, numbers in self.best), 4)


def _asked(replica: Replica, asked: np.ndarray, as_held: ExactNearest, as_made: ExactNearest) -> dict[str, Any]:
    searcher = Searcher(None)
    found: list[set[int]] = []
    seconds: list[float] = []
    # Twice: first every question as it comes to a service that has just started, then with its pages in memory.
    for _ in range(2):
        found, before, seconds = [], seconds, []
        for vector in asked:
            question = Question(vector=tuple(vector.tolist()), limit=K, collapse=False)
            started = time.perf_counter()
            answer = searcher.search(replica.snapshot, question)
            seconds.append(time.perf_counter() - started)
            found.append({int(result["id"]) for result in answer.results})
    return {
        "recall_at_10": as_held.recall(found),
        "recall_at_10_of_floats": as_made.recall(found),
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
    """From the return of a commit until its last row is found by its words and by its vector, a commit each second."""
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
            made = hot_lake.rows(numbers, vectors[numbers], own, space, SYSTEMS, datetime.now(UTC), turn)
            lake.append(HOT.address, made, Fence("bench-fresh", turn + 1), {})
            waited.append(
                _seconds_until_found(replica, str(made["text"][-1]), vectors[numbers[-1]], str(made["id"][-1]))
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
    by_words = Question(text=f'"{words}"', mode="keyword", limit=1)
    by_meaning = Question(vector=tuple(vector.astype(float).tolist()), limit=1)
    while time.perf_counter() - started < PATIENCE_SECONDS:
        if all(
            [result["id"] for result in searcher.search(replica.snapshot, question).results] == [id]
            for question in (by_words, by_meaning)
        ):
            return time.perf_counter() - started
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(
        f"row {id} was committed {PATIENCE_SECONDS:g} s ago and is not found; expected a replica that follows its table"
    )

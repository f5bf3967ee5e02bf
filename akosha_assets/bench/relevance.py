"""How good results are: judged questions by each way of ranking, and which fusion halves kept apart would choose."""

from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from akosha_assets.bench import runs
from akosha_assets.bench.judged import Judged, JudgedSet, folder_sets, simulated
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.query import WEIGHTS, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.states import CLOSE
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence

K = 10
# Rows of each ranking that other ways of fusion see.
DEPTH = 100
MODES = ("keyword", "semantic", "hybrid")
FIGURES = ("recall_at_10", "mrr", "ndcg_at_10")
SEMANTIC_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7)
RRF_CONSTANTS = (20, 60)
NEIGHBOUR_SHARE = 0.2

# Positions and scores of rows, best first.
Ranked = list[tuple[int, float]]


class _CachingEmbedder(Embedder):
    """Embeds each text once, since every way of ranking asks the same."""

    def __init__(self, embedder: Embedder):
        super().__init__(None, embedder.space, embedder.dimensions)
        self._embedder = embedder
        self._known: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The same as the embedder that it wraps."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._embedder.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def run(
    *, systems: int, memories: int, queries: int, sets: Sequence[Path], sweep: bool, work: Path | None
) -> dict[str, Any]:
    """For each judged set recall@10, MRR and nDCG@10 of each mode, and the fusion that each half would choose.

    Recall@10 is the share of the evidence among the ten results, of as much as ten could have. `chosen` names the
    fusion with the best mean of recall and MRR over one half of all sets, with its figures on the other half. With
    `sweep`, the figures of every fusion are listed.
    """
    embedder = _CachingEmbedder(Embedder.load(LakeSettings()))
    judged_sets = [simulated(systems=systems, memories=memories, queries=queries)]
    judged_sets += [one for folder in sets for one in folder_sets(folder)]
    answer: dict[str, Any] = {"sets": {}, "weights": list(WEIGHTS)}
    by_fusion: dict[str, list[tuple[int, str, tuple[float, ...]]]] = {}
    for one in judged_sets:
        with runs.home(work) as settings:
            lake = Lake(settings)
            lake.append(HOT.address, _rows(one.texts, embedder), Fence("bench", 1), {})
            replica = Replica(lake)
            replica.refresh()
            ask = _Asker(replica, Searcher(embedder))
            answer["sets"][one.name] = _measure(ask, one) | {"close": _closeness(ask, one)}
            for name, fusion in _fusions(ask, one).items():
                by_fusion.setdefault(name, []).extend(
                    (each.half, one.name, score(each, fusion(each.text))) for each in one.questions
                )
            replica.stop()
    answer["chosen"] = _chosen(by_fusion)
    if sweep:
        answer["sweep"] = {name: _by_set(measured) for name, measured in by_fusion.items()}
    return answer | {"space": embedder.space, "machine": runs.machine()}


class _Asker:
    """Asks one replica."""

    def __init__(self, replica: Replica, searcher: Searcher):
        self._replica, self._searcher = replica, searcher
        self._ranked: dict[tuple[str, str], Ranked] = {}

    def page(self, text: str, mode: str, weights: tuple[float, float] | None = None) -> Ranked:
        """The first page that a caller sees."""
        return self._results(Question(text=text, mode=mode, limit=K, weights=weights))

    def ranked(self, text: str, mode: str) -> Ranked:
        """The first `DEPTH` rows, with near-duplicates."""
        if (text, mode) not in self._ranked:
            self._ranked[text, mode] = self._results(Question(text=text, mode=mode, limit=DEPTH, collapse=False))
        return self._ranked[text, mode]

    def relevances(self, text: str, mode: str) -> Ranked:
        """Positions and relevances of the first page."""
        answer = self._searcher.search(self._replica.snapshot, Question(text=text, mode=mode, limit=K))
        return [(int(result["id"]), result["relevance"]) for result in answer.results]

    def _results(self, question: Question) -> Ranked:
        answer = self._searcher.search(self._replica.snapshot, question)
        return [(int(result["id"]), result["score"]) for result in answer.results]


def score(judged: Judged, results: Ranked) -> tuple[float, float, float]:
    """Recall@10, reciprocal rank and nDCG@10 of `results`."""
    top = [position for position, _ in results[:K]]
    is_right = np.array([position in judged.evidence for position in top], bool)
    found: set[Hashable] = {judged.evidence[position] for position in top if position in judged.evidence}
    possible = min(K, len(set(judged.evidence.values())))
    first = np.flatnonzero(is_right)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    ideal = float(discounts[: min(K, len(judged.evidence))].sum())
    gained = float(discounts[: len(is_right)][is_right].sum())
    return len(found) / possible, 1 / (1 + int(first[0])) if len(first) else 0.0, gained / ideal


def _measure(ask: _Asker, one: JudgedSet) -> dict[str, Any]:
    scores = {mode: [score(each, ask.page(each.text, mode)) for each in one.questions] for mode in MODES}
    styles = [each.style for each in one.questions]
    figures: dict[str, Any] = {"questions": len(one.questions), "memories": len(one.texts)}
    for number, figure in enumerate(FIGURES):
        figures[figure] = {mode: round(float(np.mean([each[number] for each in scores[mode]])), 3) for mode in MODES}
    figures["by_style"] = {
        mode: {
            style: _means([each for each, of in zip(scores[mode], styles, strict=True) if of == style])
            for style in dict.fromkeys(styles)
        }
        for mode in MODES
    }
    return figures


def _closeness(ask: _Asker, one: JudgedSet) -> dict[str, dict[str, float]]:
    """For each mode the share of questions whose right results are all below the line, of those with one among the ten,
    and by kind the share of unanswered questions with a result above it.
    """
    shares: dict[str, dict[str, float]] = {}
    for mode in MODES:
        pages = [(each, ask.relevances(each.text, mode)) for each in one.questions]
        right = [[close for at, close in page if at in each.evidence] for each, page in pages]
        lost = [max(closes) < CLOSE for closes in right if closes]
        shares[mode] = {"lost": round(float(np.mean(lost)), 3) if lost else 0.0}
        for kind, texts in one.unanswered.items():
            if texts:
                found = [any(close >= CLOSE for _, close in ask.relevances(text, mode)) for text in texts]
                shares[mode][f"false_yes_{kind}"] = round(float(np.mean(found)), 3)
    return shares


def _means(scores: Sequence[tuple[float, ...]]) -> dict[str, float]:
    return dict(zip(FIGURES, np.mean(scores, axis=0).round(3).tolist(), strict=True))


def _fusions(ask: _Asker, one: JudgedSet) -> dict[str, Callable[[str], Ranked]]:
    """Ways to fuse the two rankings, by name; each takes the text of a question."""
    fusions: dict[str, Callable[[str], Ranked]] = {}
    for weight in SEMANTIC_WEIGHTS:
        weights = (weight, round(1 - weight, 3))
        fusions[f"score {weight}"] = partial(ask.page, mode="hybrid", weights=weights)
        fusions[f"min-max {weight}"] = partial(_fused, ask, weights, _min_max)
        for constant in RRF_CONSTANTS:
            fusions[f"rrf {constant} {weight}"] = partial(_fused, ask, weights, partial(_reciprocal_ranks, constant))
    fusions[f"score {WEIGHTS[0]} + session"] = partial(_with_neighbours, ask, one.sessions)
    return fusions


def _fused(ask: _Asker, weights: tuple[float, float], scale: Callable[[Ranked], Sequence[float]], text: str) -> Ranked:
    total: dict[int, float] = {}
    for mode, weight in zip(("semantic", "keyword"), weights, strict=True):
        ranked = ask.ranked(text, mode)
        for (position, _), scaled in zip(ranked, scale(ranked), strict=True):
            total[position] = total.get(position, 0.0) + weight * scaled
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


def _reciprocal_ranks(constant: int, ranked: Ranked) -> list[float]:
    return [1 / (constant + rank) for rank in range(1, len(ranked) + 1)]


def _min_max(ranked: Ranked) -> list[float]:
    scores = [one for _, one in ranked]
    return [(one - scores[-1]) / max(scores[0] - scores[-1], 1e-9) for one in scores]


def _with_neighbours(ask: _Asker, sessions: list[str | None], text: str) -> Ranked:
    """Adds to each score of hybrid a share of the best score of another row of the same session."""
    raised, ranked = [], ask.ranked(text, "hybrid")
    for position, one in ranked:
        session = sessions[position]
        others = [other for at, other in ranked if at != position and session and sessions[at] == session]
        raised.append((position, one + NEIGHBOUR_SHARE * max(others, default=0.0)))
    return sorted(raised, key=lambda pair: -pair[1])


def _by_set(measured: list[tuple[int, str, tuple[float, ...]]], half: int | None = None) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for _, name, _ in measured)
    picked = {name: [scores for at, of, scores in measured if of == name and half in (None, at)] for name in names}
    return {name: _means(scores) for name, scores in picked.items() if scores}


def _chosen(by_fusion: dict[str, list[tuple[int, str, tuple[float, ...]]]]) -> list[dict[str, Any]]:
    """For each half the best fusion on it, and the figures of that fusion on the other half."""
    chosen = []
    for half in (0, 1):

        def quality(name: str, half: int = half) -> float:
            means = _by_set(by_fusion[name], half).values()
            return float(np.mean([each["recall_at_10"] + each["mrr"] for each in means])) if means else 0.0

        best = max(by_fusion, key=quality)
        chosen.append({"half": half, "fusion": best, "on_the_other_half": _by_set(by_fusion[best], 1 - half)})
    return chosen


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

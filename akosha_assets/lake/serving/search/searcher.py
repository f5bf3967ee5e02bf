"""One question across the tiers: rank by meaning and by words, fuse, and say how whole the answer is.

Knows nothing of HTTP and nothing of how rows came to be served.
"""

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable, InvalidRequest
from akosha_assets.lake.serving.query import NAMING_WEIGHTS, WEIGHTS, Question
from akosha_assets.lake.serving.search.collapsing import collapse
from akosha_assets.lake.serving.search.ranking import Ranking, reciprocal_rank_fusion
from akosha_assets.lake.serving.search.required_terms import filter_ranking
from akosha_assets.lake.serving.search.results import describe_tier, facets, fit_budget, render_group
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.text.analysis import names_something
from akosha_assets.lake.serving.text.query_parser import parse_query
from akosha_assets.lake.serving.time_limit import check_time_limit
from akosha_assets.lake.serving.vectors.nearest import nearest

logger = logging.getLogger(__name__)

# How slowly a lower rank counts for less in reciprocal rank fusion: chosen by `akosha bench relevance --sweep`.
RRF_CONSTANT = 20
# Questions in words whose vectors are kept: the next page asks with the same words.
EMBEDDED_KEPT = 1024
# How deep each ranking looks at first, beyond what earlier pages held: as deep for one result as for many, so that
# either says the same of near-duplicates; and at least so much deeper than a page.
DEPTH, BEYOND_PAGE = 120, 60
# Where copies are most of what is found the rankings look so many times deeper once, and as often as a page is not
# full, until they are this deep.
DEEPER, DEPTH_MAX = 8, 20_000


@dataclass
class RankingStage:
    """What one ranking did: `state` is answered, skipped or unavailable; `reason` says more."""

    state: str = "skipped"
    reason: str | None = None
    space: str | None = None
    candidates: int = 0
    approximate: bool = False
    took_ms: float = 0.0


@dataclass
class Answer:
    """Results of one page with everything an answer says about itself."""

    results: list[dict[str, Any]]
    tiers: dict[str, dict[str, Any]]
    stages: dict[str, RankingStage]
    cursor: str | None
    facets: dict[str, dict[str, int]]
    took_ms: float = 0.0
    mode: str = "hybrid"


@dataclass
class _Ranked:
    ranking: Ranking = field(default_factory=Ranking.empty)
    stage: RankingStage = field(default_factory=RankingStage)
    # More rows may follow than were asked for.
    is_truncated: bool = False


class Searcher:
    """Answers questions from snapshots. `embedder` is None where no model can be loaded; `no_model` says why.

    `dimensions` is what a vector must have while no row has one.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        no_model: str = "",
        *,
        dimensions: int = 384,
        fusion_constant: int = RRF_CONSTANT,
    ):
        self.embedder, self.no_model, self.dimensions = embedder, no_model, dimensions
        self.fusion_constant = fusion_constant
        self._counting = threading.Lock()
        self._under_way = 0
        # Results, since the start, that were shown without marks.
        self.snippet_failures = 0
        self._logged_failures: set[str] = set()
        self._embedded = lru_cache(EMBEDDED_KEPT)(self._embed)

    def search(self, snapshot: Snapshot, question: Question) -> Answer:
        """The answer to `question`.

        Raises:
            InvalidRequest: the question asks for something that cannot be.
            NotFound: the memory it wants similar ones of is not there.
            EmbeddingUnavailable: it can only be answered by meaning, and its words cannot be turned into a vector.
        """
        with self._counting:
            self._under_way += 1
        try:
            return self._answer(snapshot, question)
        finally:
            with self._counting:
                self._under_way -= 1

    def _answer(self, snapshot: Snapshot, question: Question) -> Answer:
        started = time.perf_counter()
        question = question.checked()
        question = replace(question, parsed=parse_query(question.text or ""))
        told = question.told()
        depth = first_depth = len(told) + max(DEPTH, question.limit + BEYOND_PAGE)
        while True:
            check_time_limit()
            semantic, keyword, ranking = self._ranked(snapshot, question, depth)
            groups, more = collapse(ranking, snapshot.places, question.limit, told, collapse=question.collapse)
            is_truncated = semantic.is_truncated or keyword.is_truncated
            is_crowded = depth == first_depth and question.collapse and 2 * ranking.contents < len(ranking)
            if not is_truncated or (len(groups) == question.limit and not is_crowded):
                break
            if depth >= DEPTH_MAX:
                for each in (semantic, keyword):
                    if each.is_truncated:
                        each.stage.reason = (
                            f"the best {depth} rows hold no more different texts; filters find others among the rest"
                        )
                break
            depth = min(DEEPER * depth, DEPTH_MAX)
        more = more or (is_truncated and bool(groups))
        stems = snapshot.keywords.highlights(question.parsed)
        failures: list[Exception] = []
        results = fit_budget(
            [render_group(group, snapshot.terms, stems, failures) for group in groups], question.budget_tokens
        )
        if failures:
            self._count_failures(failures)
        page = [(group.first.identity, group.first.content) for group in groups[: len(results)]]
        more = more or len(results) < len(groups)
        return Answer(
            results,
            {name: describe_tier(tier) for name, tier in snapshot.tiers.items()},
            {"semantic": semantic.stage, "keyword": keyword.stage},
            question.cursor_after(told, page) if more else None,
            facets(snapshot, question.filters, question.facets) if question.facets else {},
            _ms(started),
            question.mode,
        )

    def _count_failures(self, failures: list[Exception]) -> None:
        """Each is counted; the first of each kind is logged, as any search for the same memory fails again."""
        with self._counting:
            self.snippet_failures += len(failures)
            first = {type(each).__name__: each for each in failures if type(each).__name__ not in self._logged_failures}
            self._logged_failures.update(first)
        for each in first.values():
            logger.error("a result is shown without marks", exc_info=each)

    def _ranked(self, snapshot: Snapshot, question: Question, depth: int) -> tuple[_Ranked, _Ranked, Ranking]:
        """What each ranking found, and both together."""
        semantic = _Ranked() if question.mode == "keyword" else self._semantic(snapshot, question, depth)
        keyword = _Ranked() if question.mode == "semantic" else _keyword(snapshot, question, depth)
        if question.mode == "hybrid":
            if required := question.parsed.required:
                semantic.ranking = filter_ranking(semantic.ranking, snapshot.places, required, snapshot.terms)
            weights = question.weights or (NAMING_WEIGHTS if names_something(question.text or "") else WEIGHTS)
            return (
                semantic,
                keyword,
                reciprocal_rank_fusion(semantic.ranking, keyword.ranking, weights, self.fusion_constant),
            )
        return semantic, keyword, keyword.ranking if question.mode == "keyword" else semantic.ranking

    def _semantic(self, snapshot: Snapshot, question: Question, depth: int) -> _Ranked:
        started = time.perf_counter()
        try:
            vector, space, itself = self._vector(snapshot, question)
        except EmbeddingUnavailable as error:
            if question.mode == "semantic":
                raise
            return _Ranked(stage=RankingStage("unavailable", str(error)))
        having = [
            number
            for number, (_, part) in enumerate(snapshot.places)
            if space in part.vectors and part.vectors[space].dimensions == len(vector)
        ]
        parts = [snapshot.places[number][1] for number in having]
        sets = [(part.vectors[space], question.filters.mask(part, snapshot.terms)) for part in parts]
        owners, rows, scores = nearest(sets, vector, depth, is_alone=self._under_way == 1)
        ranking = Ranking.of("semantic", snapshot.places, np.array(having, np.int64)[owners], rows, scores).settled()
        if itself is not None:
            ranking = ranking.without(np.array([itself], np.uint64))
        stage = RankingStage(
            "answered", None, space, len(ranking), any(held.is_approximate for held, _ in sets), _ms(started)
        )
        ranked = snapshot.vectors.get((space, len(vector)), 0)
        if not sets:
            stage.reason = f"no row has a vector of the space {space!r} yet"
        elif ranked < snapshot.visible_rows:
            stage.reason = (
                f"{snapshot.visible_rows - ranked} of {snapshot.visible_rows} memories have no vector of "
                f"the space {space!r} (yet)"
            )
        return _Ranked(ranking, stage, len(rows) >= depth)

    def _embed(self, text: str) -> np.ndarray:
        assert self.embedder is not None
        vector = self.embedder.embed([text])[0].copy()
        # Shared by all who ask the same.
        vector.flags.writeable = False
        return vector

    def _vector(self, snapshot: Snapshot, question: Question) -> tuple[np.ndarray, str, int | None]:
        """The unit vector that is asked with, its space, and the identity of the memory that is asked about."""
        known = snapshot.dimensions()
        if question.like is not None:
            place = snapshot.find(question.like)
            if place is None:
                raise snapshot.missing(question.like)
            _, part, row = place
            vectors = {
                space: vector for space, held in part.vectors.items() if (vector := held.asked_with(row)) is not None
            }
            for space, vector in vectors.items():
                if question.space in (None, space):
                    return vector, space, int(part.identity[row])
            if vectors:
                raise InvalidRequest(
                    "space", f"this memory has no vector of {question.space!r}; expected {', '.join(sorted(vectors))}"
                )
            raise InvalidRequest(
                "like", "this memory has no vector yet; expected one that is embedded, or ask with its words"
            )
        if question.vector is not None:
            space = question.space or (self.embedder.space if self.embedder else next(iter(known), ""))
            expected = known.get(space) or (
                self.embedder.dimensions if self.embedder and self.embedder.space == space else None
            )
            if expected is None and known:
                raise InvalidRequest(
                    "space", f"{space!r} is not a space with vectors; expected one of {', '.join(sorted(known))}"
                )
            if len(question.vector) != (expected or self.dimensions):
                raise InvalidRequest(
                    "vector",
                    (
                        f"has {len(question.vector)} numbers; expected {expected or self.dimensions}, the size of "
                        "space "
                        f"{space!r}"
                    ),
                )
            vector = np.array(question.vector, np.float64)
            # Squares of very large and very small numbers are no numbers any more.
            vector /= np.abs(vector).max()
            return (vector / np.linalg.norm(vector)).astype(np.float32), space, None
        if self.embedder is None:
            raise EmbeddingUnavailable(self.no_model)
        if question.space not in (None, self.embedder.space):
            raise InvalidRequest(
                "space",
                f"words can be asked in {self.embedder.space!r} only; found {question.space!r}; or give a vector",
            )
        return self._embedded(question.text or ""), self.embedder.space, None


def _keyword(snapshot: Snapshot, question: Question, depth: int) -> _Ranked:
    started = time.perf_counter()
    numbers, scores = snapshot.keywords.search(question.parsed, question.filters, depth)
    place, row = snapshot.rows_of_numbers(numbers)
    served = place >= 0
    ranking = Ranking.of("keyword", snapshot.places, place[served], row[served], scores[served]).distinct()
    stage = RankingStage("answered", None, None, len(ranking), took_ms=_ms(started))
    if snapshot.keyword_rows < snapshot.rows:
        stage.reason = f"{snapshot.keyword_rows} of {snapshot.rows} rows are in the keyword index so far"
    return _Ranked(ranking, stage, len(numbers) >= depth)


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)

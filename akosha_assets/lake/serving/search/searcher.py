"""Answers one question over all tiers: semantic and keyword ranking, fusion, collapsing.

The answer says how complete it is. Knows neither HTTP nor how rows are loaded.
"""

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable, InvalidRequest
from akosha_assets.lake.serving.query import Operator, Question
from akosha_assets.lake.serving.search.collapsing import Group, collapse
from akosha_assets.lake.serving.search.fusion import KEYWORD_RANKS, rank_hybrid
from akosha_assets.lake.serving.search.passages import best_passages, find_gaps
from akosha_assets.lake.serving.search.query_vector import QueryVectors, memory_vectors, sent_vector
from akosha_assets.lake.serving.search.ranking import Ranking
from akosha_assets.lake.serving.search.relevance import RelevanceScale
from akosha_assets.lake.serving.search.required_terms import filter_ranking
from akosha_assets.lake.serving.search.results import (
    ResultFields,
    TierReport,
    count_facets,
    describe_closeness,
    describe_tier,
    fit_budget,
    render_group,
)
from akosha_assets.lake.serving.search.stages import RankingStage
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.states import RankingStatus, SearchMode
from akosha_assets.lake.serving.text.query_syntax import parse_query
from akosha_assets.lake.serving.time_limit import check_time_limit
from akosha_assets.lake.serving.vectors.nearest import nearest_rows
from akosha_assets.lake.serving.vectors.ranked_rows import RankedRows

logger = logging.getLogger(__name__)

# Questions whose vectors are cached: the next page has the same text.
EMBEDDINGS_CACHED = 1024
# Rows that each ranking returns at first, beyond the results of earlier pages: the same number for every small page, so
# that near-duplicates are the same for each `limit`; and at least so many more than a page has.
DEPTH, BEYOND_PAGE = KEYWORD_RANKS, 60
# While a page is not full, the rankings are repeated this many times deeper, up to a maximum; if most rows are copies,
# once.
DEEPER, DEPTH_MAX = 8, 20_000


@dataclass(kw_only=True)
class Answer:
    """One page of results, and what each tier and each ranking contributed. Its fields are those of the JSON."""

    results: list[ResultFields]
    # Whether any result is close; how many are not; what that means, if none is.
    is_close: bool
    below_line: int
    message: str | None
    tiers: dict[str, TierReport]
    stages: dict[str, RankingStage]
    cursor: str | None
    facets: dict[str, dict[str, int]]
    took_ms: float
    mode: SearchMode
    operators: list[Operator]
    unknown_values: dict[str, list[str]]


@dataclass
class _RankedStage:
    """A ranking with its report. With `is_truncated` more rows may follow than were requested."""

    ranking: Ranking = field(default_factory=Ranking.empty)
    stage: RankingStage = field(default_factory=RankingStage)
    is_truncated: bool = False
    # By identity of a memory with passages: start and end of the best one, in bytes of the text.
    passages: dict[int, tuple[int, int]] = field(default_factory=dict)
    query: QueryVectors | None = None


@dataclass(frozen=True, kw_only=True)
class _Page:
    """The groups of one page and the rankings that they come from."""

    groups: list[Group]
    has_more: bool
    semantic: _RankedStage
    keyword: _RankedStage


class Searcher:
    """Answers questions from snapshots, in any number of threads.

    `embedder` is None if no model can be loaded; `no_model` says why. `dimensions` is the expected length of a vector
    while no row has one.
    """

    def __init__(self, embedder: Embedder | None, no_model: str = "", *, dimensions: int = 384):
        self.embedder, self.no_model, self.dimensions = embedder, no_model, dimensions
        self._counting = threading.Lock()
        self._searches_under_way = 0
        # Results without highlights since the start, because their snippet failed.
        self.snippet_failures = 0
        self._logged_failures: set[str] = set()
        self._embedded = lru_cache(EMBEDDINGS_CACHED)(self._embed)

    def search(self, snapshot: Snapshot, question: Question) -> Answer:
        """The answer to `question`.

        Raises:
            InvalidRequest: a field of the question is invalid.
            NotFound: the memory of `like` does not exist.
            EmbeddingUnavailable: the mode is semantic and no model can embed the text.
        """
        with self._counting:
            self._searches_under_way += 1
        try:
            return self._answer(snapshot, question)
        finally:
            with self._counting:
                self._searches_under_way -= 1

    def _answer(self, snapshot: Snapshot, question: Question) -> Answer:
        started = time.perf_counter()
        question = question.checked()
        if question.text is not None:
            parsed = parse_query(question.text, question.text_syntax, snapshot.has_value)
            question = replace(question, parsed=parsed)
        shown = question.already_shown()
        page = self._page(snapshot, question, shown)
        stems = snapshot.keywords.highlights(question.parsed)
        scale = RelevanceScale.of(snapshot, question, page.semantic.query)
        failures: list[Exception] = []
        passages = page.semantic.passages
        results = [
            render_group(group, snapshot.terms, stems, scale, failures, passages.get(group.best.identity))
            for group in page.groups
        ]
        results = fit_budget(results, question.budget_tokens)
        if failures:
            self._count_failures(failures)
        hashes = [(group.best.identity, group.best.content) for group in page.groups[: len(results)]]
        has_more = page.has_more or len(results) < len(page.groups)
        return Answer(
            results=results,
            **describe_closeness(results),
            tiers={name: describe_tier(tier) for name, tier in snapshot.tiers.items()},
            stages={"semantic": page.semantic.stage, "keyword": page.keyword.stage},
            cursor=question.cursor_after(shown, hashes) if has_more else None,
            facets=count_facets(snapshot, question.filters, question.facets) if question.facets else {},
            took_ms=_ms_since(started),
            mode=SearchMode(question.mode),
            operators=question.parsed.operators(only_required=question.mode == SearchMode.SEMANTIC),
            unknown_values=snapshot.unknown_values(question.filters),
        )

    def _page(self, snapshot: Snapshot, question: Question, shown: np.ndarray) -> _Page:
        """The groups of the next page. Ranks deeper until the page is full or `DEPTH_MAX` rows are ranked.

        `shown` is (results, 2) uint64 as from `Question.already_shown`.
        """
        depth = first_depth = len(shown) + max(DEPTH, question.limit + BEYOND_PAGE)
        while True:
            check_time_limit()
            semantic, keyword, ranking = self._rank(snapshot, question, depth)
            if snapshot.presence.has_absences:
                ranking = ranking.demote_absent(snapshot.places)
            groups, has_more = collapse(ranking, snapshot.places, question.limit, shown, collapse=question.collapse)
            is_truncated = semantic.is_truncated or keyword.is_truncated
            are_mostly_copies = question.collapse and 2 * ranking.distinct_texts < len(ranking)
            is_full = len(groups) == question.limit and not (depth == first_depth and are_mostly_copies)
            if not is_truncated or is_full:
                break
            if depth >= DEPTH_MAX:
                for each in (semantic, keyword):
                    if each.is_truncated:
                        each.stage.is_complete = False
                        each.stage.reason = (
                            f"the best {depth} rows have no more different texts; filters find others among the rest"
                        )
                break
            depth = min(DEEPER * depth, DEPTH_MAX)
        has_more = has_more or (is_truncated and bool(groups))
        return _Page(groups=groups, has_more=has_more, semantic=semantic, keyword=keyword)

    def _count_failures(self, failures: list[Exception]) -> None:
        """Counts every failure and logs the first of each type: a search for the same memory fails again."""
        with self._counting:
            self.snippet_failures += len(failures)
            first = {type(each).__name__: each for each in failures if type(each).__name__ not in self._logged_failures}
            self._logged_failures.update(first)
        for each in first.values():
            logger.error("a result is shown without highlights", exc_info=each)

    def _rank(self, snapshot: Snapshot, question: Question, depth: int) -> tuple[_RankedStage, _RankedStage, Ranking]:
        """The semantic ranking, the keyword ranking, and the one that the mode asks for."""
        mode = question.mode
        semantic = _RankedStage() if mode == SearchMode.KEYWORD else self._rank_semantic(snapshot, question, depth)
        keyword = _RankedStage() if mode == SearchMode.SEMANTIC else _rank_keyword(snapshot, question, depth)
        if mode == SearchMode.KEYWORD:
            return semantic, keyword, keyword.ranking
        if required := question.parsed.required:
            semantic.ranking = filter_ranking(semantic.ranking, snapshot.places, required, snapshot.terms)
        if mode == SearchMode.SEMANTIC:
            return semantic, keyword, semantic.ranking
        return semantic, keyword, rank_hybrid(snapshot, question, semantic.ranking, keyword.ranking, semantic.query)

    def _rank_semantic(self, snapshot: Snapshot, question: Question, depth: int) -> _RankedStage:
        started = time.perf_counter()
        try:
            query = self._query_vectors(snapshot, question)
        except EmbeddingUnavailable as error:
            if question.mode == SearchMode.SEMANTIC:
                raise
            stage = RankingStage(state=RankingStatus.UNAVAILABLE, reason=str(error), is_complete=False)
            return _RankedStage(stage=stage)
        space, dimensions = query.space, query.vectors.shape[1]
        with_space = [
            place
            for place, (_, part) in enumerate(snapshot.places)
            if space in part.vectors and part.vectors[space].dimensions == dimensions
        ]
        parts = [snapshot.places[place][1] for place in with_space]
        sets = [(part.vectors[space], question.filters.mask(part, snapshot.terms)) for part in parts]
        is_alone = self._searches_under_way == 1
        found = RankedRows.join([nearest_rows(sets, vector, depth, is_alone=is_alone) for vector in query.vectors])
        places = np.array(with_space, np.int64)[found.owner]
        ranking = Ranking.from_rows("semantic", snapshot.places, place=places, row=found.row, score=found.score)
        passages = best_passages(ranking, found)
        ranking = ranking.sort()
        if query.identity is not None:
            ranking = ranking.exclude(np.array([query.identity], np.uint64))
        stage = RankingStage(
            state=RankingStatus.ANSWERED,
            space=space,
            candidates=len(ranking),
            approximate=any(vectors.is_approximate for vectors, _ in sets),
            took_ms=_ms_since(started),
        )
        stage.reason, stage.is_complete = find_gaps(snapshot, space, dimensions)
        return _RankedStage(ranking, stage, len(found) >= depth, passages, query)

    def _embed(self, text: str) -> np.ndarray:
        assert self.embedder is not None
        vector: np.ndarray = self.embedder.embed([text])[0].copy()
        # The cache shares it between searches.
        vector.flags.writeable = False
        return vector

    def _query_vectors(self, snapshot: Snapshot, question: Question) -> QueryVectors:
        """The vectors that the semantic ranking compares with. Raises as `search`."""
        model, stored = self.embedder, snapshot.dimensions()
        if question.like is not None:
            return memory_vectors(snapshot, question.like, question.space)
        if question.vector is not None:
            space = question.space or (model.space if model else next(iter(stored), ""))
            dimensions = stored.get(space) or (model.dimensions if model and model.space == space else None)
            if dimensions is None and stored:
                raise InvalidRequest(
                    "space", f"{space!r} is not a space with vectors; expected one of {', '.join(sorted(stored))}"
                )
            return sent_vector(question.vector, space, dimensions or self.dimensions)
        if model is None:
            raise EmbeddingUnavailable(self.no_model)
        if question.space not in (None, model.space):
            raise InvalidRequest(
                "space",
                f"text queries need the space {model.space!r}; found {question.space!r}; "
                "use that space or pass a vector",
            )
        return QueryVectors(vectors=self._embedded(question.parsed.meaning)[None], space=model.space)


def _rank_keyword(snapshot: Snapshot, question: Question, depth: int) -> _RankedStage:
    started = time.perf_counter()
    row_ids, scores = snapshot.keywords.search(question.parsed, question.filters, depth)
    place, row = snapshot.locate(row_ids)
    is_served = place >= 0
    ranking = Ranking.from_rows(
        "keyword", snapshot.places, place=place[is_served], row=row[is_served], score=scores[is_served]
    ).deduplicate()
    if question.filters.absent is not None:
        # The keyword index does not know it: absences change without the rows.
        ranking = ranking.take(ranking.absent(snapshot.places) == question.filters.absent)
    stage = RankingStage(state=RankingStatus.ANSWERED, candidates=len(ranking), took_ms=_ms_since(started))
    if snapshot.keyword_rows < snapshot.rows:
        stage.is_complete = False
        stage.reason = f"{snapshot.keyword_rows} of {snapshot.rows} rows are in the keyword index so far"
    return _RankedStage(ranking, stage, len(row_ids) >= depth)


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)

"""Hybrid ranking: the weighted sum of the semantic and the keyword score of a row, each scaled to 0..1.

The score of a row depends on the question and the lake alone, not on how many rows were ranked: deeper pages continue
the same order. docs/decisions/0066 compares this with fusion by rank.
"""

from dataclasses import dataclass

import numpy as np

from akosha_assets.lake.serving.query import WEIGHTS, Question
from akosha_assets.lake.serving.search.query_vector import QueryVectors
from akosha_assets.lake.serving.search.ranking import Places, Ranking
from akosha_assets.lake.serving.snapshot import Snapshot

# Keyword scores count above that of the row with this rank. A row found by its vector alone has an unknown keyword
# score of at most that, so the rows below are equal too.
KEYWORD_RANKS = 120


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What the scores of one question are compared with."""

    # The mean cosine of the question with rows of the lake.
    background: float = 0.0
    # The keyword score of a row that has every word of the question once.
    full_score: float = 0.0

    def semantic(self, cosines: np.ndarray) -> np.ndarray:
        """(rows,) float64: 0 for the cosine of an average row, 1 for an equal text; NaN is 0."""
        scaled = (np.nan_to_num(cosines, nan=-1.0) - self.background) / (1 - self.background)
        clipped: np.ndarray = np.clip(scaled, 0, 1)
        return clipped

    def keyword(self, scores: np.ndarray) -> np.ndarray:
        """(rows,) float64: the share of the full score, at most 1; NaN is 0."""
        return np.clip(np.nan_to_num(scores, nan=0.0) / self.full_score, 0, 1) if self.full_score else 0.0 * scores


def rank_hybrid(
    snapshot: Snapshot, question: Question, semantic: Ranking, keyword: Ranking, query: QueryVectors | None
) -> Ranking:
    """The hybrid ranking of `question` from its two rankings; `query` is None without a semantic one."""
    keyword_cosines, background = np.full(len(keyword), np.nan), 0.0
    if query is not None:
        is_missing = ~np.isin(keyword.identity, semantic.identity)
        keyword_cosines[is_missing] = cosines(keyword.take(is_missing), snapshot.places, query)
        background = query.background(snapshot)
    full_score = snapshot.keywords.full_score(question.parsed)
    if not full_score and len(keyword):
        # Only prefixes, names of fields and excluded words.
        full_score = float(keyword.score[0])
    scales = Scales(background=background, full_score=full_score)
    return fuse(semantic, keyword, keyword_cosines, question.weights or WEIGHTS, scales)


def cosines(ranking: Ranking, places: Places, query: QueryVectors) -> np.ndarray:
    """(rows,) float64: the cosine of each row of `ranking` with `query`, the highest where a row has several; NaN if it
    has no vector of its space.
    """
    result = np.full(len(ranking), np.nan)
    for place in set(ranking.place.tolist()):
        vectors = places[place][1].vectors.get(query.space)
        if vectors is not None and vectors.dimensions == query.vectors.shape[1]:
            is_here = ranking.place == place
            rows = ranking.row[is_here]
            result[is_here] = np.max([vectors.row_scores(vector, rows) for vector in query.vectors], axis=0)
    return result


def fuse(
    semantic: Ranking,
    keyword: Ranking,
    keyword_cosines: np.ndarray,
    weights: tuple[float, float],
    scales: Scales,
) -> Ranking:
    """One ranking of the rows of both by their weighted sum, then by keyword score and identity.

    `keyword_cosines`, (rows of keyword,) float64: NaN if unknown. `weights` are those of `semantic` and `keyword`; a
    ranking of weight 0 adds no rows.
    """
    semantic_weight, keyword_weight = weights
    if not semantic_weight:
        semantic = Ranking.empty()
    if not keyword_weight:
        keyword, keyword_cosines = Ranking.empty(), np.empty(0)
    identity, first, which = np.unique(
        np.concatenate([semantic.identity, keyword.identity]), return_index=True, return_inverse=True
    )
    keyword_scores, semantic_scores = np.full(len(identity), np.nan), np.full(len(identity), np.nan)
    of_semantic, of_keyword = which[: len(semantic)], which[len(semantic) :]
    semantic_scores[of_keyword] = keyword_cosines
    semantic_scores[of_semantic] = semantic.score
    keyword_scores[of_keyword] = keyword.score
    shares = scales.keyword(keyword_scores)
    if len(keyword) >= KEYWORD_RANKS:
        shares = np.clip(shares - scales.keyword(keyword.score[KEYWORD_RANKS - 1 : KEYWORD_RANKS]), 0, None)
    score = (semantic_weight * scales.semantic(semantic_scores) + keyword_weight * shares) / sum(weights)
    fused = Ranking(
        place=np.concatenate([semantic.place, keyword.place])[first],
        row=np.concatenate([semantic.row, keyword.row])[first],
        identity=identity,
        content=np.concatenate([semantic.content, keyword.content])[first],
        score=score,
        scores={"keyword": keyword_scores, "semantic": semantic_scores},
    )
    return fused.take(np.lexsort((identity, -np.nan_to_num(keyword_scores, nan=0.0), -score)))

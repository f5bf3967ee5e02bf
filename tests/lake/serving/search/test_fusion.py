"""Fusing the semantic and the keyword ranking by scaled scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.serving.search.fusion import KEYWORD_RANKS, Scales, fuse
from akosha_assets.lake.serving.search.ranking import Ranking
from tests.lake.serving.search.test_ranking import places, ranking

SCALES = Scales(background=0.2, full_score=10.0)


def test_the_score_is_the_weighted_sum_of_scaled_scores() -> None:
    one = places([7, 8, 9])
    semantic = ranking("semantic", one, (0, 0, 0.9), (0, 1, 0.6))
    keyword = ranking("keyword", one, (0, 1, 10.0), (0, 2, 2.5))
    hits = list(fuse(semantic, keyword, np.array([np.nan, 0.2]), (0.5, 0.5), SCALES).hits(one))
    assert [hit.identity for hit in hits] == [8, 7, 9]
    assert [hit.score for hit in hits] == pytest.approx([0.5 * 0.5 + 0.5, 0.5 * 0.875, 0.5 * 0.25])
    assert [hit.scores for hit in hits] == [
        {"keyword": 10.0, "semantic": 0.6},
        {"semantic": 0.9},
        {"keyword": 2.5, "semantic": 0.2},
    ]


def test_a_ranking_of_weight_0_adds_no_rows() -> None:
    one = places([7, 8, 9])
    semantic, keyword = ranking("semantic", one, (0, 0, 0.9)), ranking("keyword", one, (0, 1, 10.0))
    assert fuse(semantic, keyword, np.array([0.9]), (0.0, 1.0), SCALES).identity.tolist() == [8]
    assert fuse(semantic, keyword, np.array([0.9]), (1.0, 0.0), SCALES).identity.tolist() == [7]


def test_keyword_scores_above_the_full_score_still_order_rows() -> None:
    one = places([7, 8, 9])
    keyword = ranking("keyword", one, (0, 2, 30.0), (0, 1, 20.0), (0, 0, 11.0))
    assert fuse(Ranking.empty(), keyword, np.full(3, np.nan), (0.5, 0.5), SCALES).identity.tolist() == [9, 8, 7]


@given(st.integers(0, 2**32 - 1), st.integers(KEYWORD_RANKS, 400))
def test_ranking_deeper_adds_rows_and_changes_no_score(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 400
    one = places(list(range(1, rows + 1)))
    cosine, words = rng.uniform(-0.2, 1, rows), np.where(rng.random(rows) < 0.6, rng.uniform(0, 14, rows), 0)

    def fused(depth: int) -> dict[int, float]:
        nearest = np.argsort(-cosine)[:depth]
        found = np.argsort(-words)[: min(depth, int((words > 0).sum()))]
        semantic = ranking("semantic", one, *((0, int(row), cosine[row]) for row in nearest))
        keyword = ranking("keyword", one, *((0, int(row), words[row]) for row in found))
        both = fuse(semantic, keyword, cosine[found], (0.5, 0.5), SCALES)
        return dict(zip(both.identity.tolist(), both.score.tolist(), strict=True))

    shallow, deep = fused(KEYWORD_RANKS), fused(depth)
    assert shallow.items() <= deep.items()

"""Sorting, deduplicating and fusing rankings."""

from datetime import date

import numpy as np
import pyarrow as pa

from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.search.ranking import Places, Ranking, reciprocal_rank_fusion


def places(*identities: list[int]) -> Places:
    def part(hashes: list[int]) -> Part:
        none = np.zeros(len(hashes), np.int64)
        hashed = np.array(hashes, np.uint64)
        return Part(
            day=date(2026, 11, 1),
            row_ids=none,
            identity=hashed,
            content=hashed,
            written=hashed,
            codes={},
            occurred_us=none,
            arrived_us=none,
            importance=none,
            payload=Payload(pa.table({})),
        )

    return [(f"tier-{number}", part(hashes)) for number, hashes in enumerate(identities)]


def ranking(name: str, found: Places, *rows: tuple[int, int, float]) -> Ranking:
    columns = [np.array([row[at] for row in rows]) for at in range(3)]
    return Ranking.from_rows(
        name, found, place=columns[0].astype(np.int64), row=columns[1].astype(np.int64), score=columns[2]
    )


def test_each_memory_is_ranked_once_by_its_hottest_row() -> None:
    both = places([7, 8], [8, 9])
    hits = list(ranking("semantic", both, (1, 0, 0.5), (0, 1, 0.5), (1, 1, 0.9), (0, 0, 0.5)).sort().hits(both))
    assert [(hit.identity, hit.tier, hit.row) for hit in hits] == [(9, "tier-1", 1), (7, "tier-0", 0), (8, "tier-0", 1)]


def test_fused_scores_are_sums_and_name_the_rankings_that_found_a_row() -> None:
    both = places([7, 8, 9])
    semantic = ranking("semantic", both, (0, 0, 0.9), (0, 1, 0.8))
    keyword = ranking("keyword", both, (0, 1, 12.0), (0, 2, 11.0))
    hits = list(reciprocal_rank_fusion(semantic, keyword, (1.0, 0.5), 20).hits(both))
    assert [(hit.identity, hit.score) for hit in hits] == [(8, 1 / 22 + 0.5 / 21), (7, 1 / 21), (9, 0.5 / 22)]
    assert [hit.scores for hit in hits] == [{"keyword": 12.0, "semantic": 0.8}, {"semantic": 0.9}, {"keyword": 11.0}]
    assert [hit.identity for hit in reciprocal_rank_fusion(semantic, keyword, (0.0, 1.0), 20).hits(both)] == [8, 9]


def test_excluded_identities_are_left_out() -> None:
    both = places([7, 8, 9])
    remaining = ranking("keyword", both, (0, 0, 3.0), (0, 1, 2.0), (0, 2, 1.0)).exclude(np.array([8], np.uint64))
    assert remaining.identity.tolist() == [7, 9]
    assert len(reciprocal_rank_fusion(Ranking.empty(), remaining, (1.0, 1.0), 20)) == 2

"""Sorting and deduplicating rankings."""

from datetime import date

import numpy as np
import pyarrow as pa

from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.search.ranking import Places, Ranking


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
            coverage=none.astype(np.uint8),
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


def test_excluded_identities_are_left_out() -> None:
    both = places([7, 8, 9])
    remaining = ranking("keyword", both, (0, 0, 3.0), (0, 1, 2.0), (0, 2, 1.0)).exclude(np.array([8], np.uint64))
    assert remaining.identity.tolist() == [7, 9]

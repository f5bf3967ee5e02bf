"""Measures the recall of the two-stage vector search on the rows that are served now."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.vectors.nearest import nearest
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, top_k

NEIGHBOURS = 10
# Vectors scanned between two pauses: a few milliseconds' work.
SCANNED_ROWS = 8192


def recall(
    snapshot: Snapshot, *, probes: int, random: np.random.Generator, pause: Callable[[float], bool] = lambda _: True
) -> float | None:
    """recall@10 of `probes` stored vectors as queries, against a scan of all vectors; None with 10 vectors or fewer.

    Each probe scans every vector. After every `SCANNED_ROWS` vectors `pause` is called with the seconds that they took
    and may sleep; if it returns False, the scan stops and the result is None.
    """
    sets = [
        vectors
        for tier in snapshot.tiers.values()
        for part in tier.parts
        for vectors in part.vectors.values()
        if not vectors.is_approximate
    ]
    filled = [vectors for vectors in sets if len(vectors)]
    if sum(len(vectors) for vectors in filled) <= NEIGHBOURS:
        return None
    sizes = np.array([len(vectors) for vectors in filled], np.float64)
    hits = 0
    for number in random.choice(len(filled), probes, p=sizes / sizes.sum()):
        chosen = filled[number]
        query = chosen.floats(random.integers(len(chosen), size=1))[0]
        comparable = [vectors for vectors in sets if vectors.dimensions == chosen.dimensions]
        exact = _exact_neighbours(comparable, query, pause)
        if exact is None:
            return None
        owners, rows, _ = nearest([(vectors, None) for vectors in comparable], query, NEIGHBOURS)
        hits += len(set(zip(owners.tolist(), rows.tolist(), strict=True)) & exact)
    return hits / (probes * NEIGHBOURS)


def _exact_neighbours(
    sets: list[VectorSet], query: np.ndarray, pause: Callable[[float], bool]
) -> set[tuple[int, int]] | None:
    """Set number and row of each true neighbour of `query`, (dimensions,) float32; None where `pause` stopped it."""
    # The negative score by set number and row.
    best: dict[tuple[int, int], float] = {}
    for number, vectors in enumerate(sets):
        for start in range(0, len(vectors), SCANNED_ROWS):
            began = time.perf_counter()
            chunk = slice(start, start + SCANNED_ROWS)
            scale = None if vectors.scale is None else vectors.scale[chunk]
            rows = vectors.rows[chunk]
            scanned = replace(vectors, rows=rows, matrix=vectors.matrix[chunk], scale=scale, index=None, passages=None)
            # The score of a row is that of its best passage. The rows are sorted.
            firsts = np.flatnonzero(np.diff(rows, prepend=-1))
            scores = np.maximum.reduceat(scanned.scores(query), firsts)
            top = top_k(scores, NEIGHBOURS)
            for score, row in zip((-scores[top]).tolist(), rows[firsts[top]].tolist(), strict=True):
                best[number, row] = min(score, best.get((number, row), score))
            best = dict(sorted(best.items(), key=lambda item: (item[1], item[0]))[:NEIGHBOURS])
            if not pause(time.perf_counter() - began):
                return None
    return set(best)

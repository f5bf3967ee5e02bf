"""Measures, on what is served now, how many of the true nearest neighbours the two-stage search finds."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.vectors.nearest import nearest
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, top_k

NEIGHBOURS = 10
# Vectors scanned without a rest: a few milliseconds' work.
SCANNED_ROWS = 8192


def recall(
    snapshot: Snapshot, *, probes: int, random: np.random.Generator, rest: Callable[[float], bool] = lambda _: True
) -> float | None:
    """recall@10 of stored vectors asked as questions, against a scan of all vectors; None while there are too few.

    Costs a scan of every vector for each probe. `rest` is called with the seconds of each few milliseconds of it and
    may take its time; where it returns False nothing more is scanned and the answer is None.
    """
    sets = [
        held
        for tier in snapshot.tiers.values()
        for part in tier.parts
        for held in part.vectors.values()
        if not held.is_approximate
    ]
    asked = [held for held in sets if len(held)]
    if sum(len(held) for held in asked) <= NEIGHBOURS:
        return None
    weights = np.array([len(held) for held in asked], np.float64)
    found = 0
    for number in random.choice(len(asked), probes, p=weights / weights.sum()):
        chosen = asked[number]
        question = chosen.floats(random.integers(len(chosen), size=1))[0]
        alike = [held for held in sets if held.dimensions == chosen.dimensions]
        true = _true(alike, question, rest)
        if true is None:
            return None
        owners, rows, _ = nearest([(held, None) for held in alike], question, NEIGHBOURS)
        found += len(set(zip(owners.tolist(), rows.tolist(), strict=True)) & true)
    return found / (probes * NEIGHBOURS)


def _true(sets: list[VectorSet], question: np.ndarray, rest: Callable[[float], bool]) -> set[tuple[int, int]] | None:
    """Number of the set and row of each true neighbour; None where `rest` ended the scan."""
    best: list[tuple[float, int, int]] = []
    for number, held in enumerate(sets):
        for start in range(0, len(held), SCANNED_ROWS):
            began = time.perf_counter()
            some = slice(start, start + SCANNED_ROWS)
            scale = None if held.scale is None else held.scale[some]
            scores = replace(held, rows=held.rows[some], matrix=held.matrix[some], scale=scale, index=None).scores(
                question
            )
            nearest_here = top_k(scores, NEIGHBOURS)
            rows = held.rows[some][nearest_here]
            best += zip((-scores[nearest_here]).tolist(), [number] * len(rows), rows.tolist(), strict=True)
            best = sorted(best)[:NEIGHBOURS]
            if not rest(time.perf_counter() - began):
                return None
    return {(number, row) for _, number, row in best}

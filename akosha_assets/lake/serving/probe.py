"""Measures, on what is served now, how many of the true nearest neighbours the two-stage search finds."""

from dataclasses import replace

import numpy as np

from akosha_assets.lake.serving.neighbours import nearest
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.vectors import Vectors

NEIGHBOURS = 10


def recall(snapshot: Snapshot, *, probes: int, random: np.random.Generator) -> float | None:
    """recall@10 of stored vectors asked as questions, against a scan of all vectors; None while there are too few.

    Costs a scan of every vector for each probe.
    """
    sets = [held for tier in snapshot.tiers.values() for part in tier.parts for held in part.vectors.values() if not held.is_approximate]
    asked = [held for held in sets if len(held)]
    if sum(len(held) for held in asked) <= NEIGHBOURS:
        return None
    weights = np.array([len(held) for held in asked], np.float64)
    found = 0
    for number in random.choice(len(asked), probes, p=weights / weights.sum()):
        chosen = asked[number]
        question = chosen.floats(random.integers(len(chosen), size=1))[0]
        alike = [held for held in sets if held.dimensions == chosen.dimensions]
        found += len(_answer(alike, question) & _answer([replace(held, index=None) for held in alike], question))
    return found / (probes * NEIGHBOURS)


def _answer(sets: list[Vectors], question: np.ndarray) -> set[tuple[int, int]]:
    """Number of the set and row of each neighbour."""
    owners, rows, _ = nearest([(held, None) for held in sets], question, NEIGHBOURS)
    return set(zip(owners.tolist(), rows.tolist(), strict=True))

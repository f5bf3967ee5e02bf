"""The nearest neighbours of a question among many sets of vectors, by all cores.

Two stages: each set proposes candidates (`vectors.py`), and those that were only estimated are ranked by stored vectors.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from akosha_assets.lake.serving.layouts import Layout
from akosha_assets.lake.serving.vectors import Vectors, joined, top

# Candidates of all sets together that are ranked by their stored vectors: chosen by `akosha bench search`.
CANDIDATES = 500
# Among more vectors than this more are needed, by the root of how many times as many there are: chosen by `akosha bench tiers`.
CANDIDATES_FOR_ROWS = 1_000_000
# Sets with more vectors than this together are scanned by several threads.
PARALLEL_ROWS = 100_000

Selected = tuple[Vectors, np.ndarray | None]
Proposed = tuple[np.ndarray, np.ndarray, bool]


def nearest(
    sets: list[Selected], query: np.ndarray, k: int, candidates: int | None = None, *, is_alone: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` best of all `sets`, best first: number of the set, row, cosine. A set comes with the mask of the rows that count.

    A question that is not alone keeps to this thread: sharing it out among cores that are taken makes every question wait longer.
    """
    if candidates is None:
        candidates = round(CANDIDATES * max(1.0, sum(len(held) for held, _ in sets) / CANDIDATES_FOR_ROWS) ** 0.5)
    wanted = max(candidates, 2 * k)
    # Neighbours are spread over the sets; one set that had them all would need every candidate.
    each = max(wanted // 4, min(wanted, 3 * wanted // max(1, 2 * len(sets))), k)
    proposed = _proposed(sets, query, each, is_alone=is_alone)
    if not proposed:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    owner = np.repeat(np.arange(len(sets)), [len(positions) for positions, _, _ in proposed])
    positions = np.concatenate([positions for positions, _, _ in proposed])
    scores = np.concatenate([scores for _, scores, _ in proposed])
    best = np.sort(top(scores, wanted))
    owner, positions, scores = owner[best], positions[best], scores[best]
    bounds = np.searchsorted(owner, np.arange(len(sets) + 1)).tolist()
    estimated: dict[str, list[tuple[Vectors, slice]]] = {}
    for (held, _), (_, _, is_estimate), start, stop in zip(sets, proposed, bounds, bounds[1:], strict=False):
        if is_estimate and start < stop:
            estimated.setdefault(held.form, []).append((held, slice(start, stop)))
    for some in estimated.values():
        together = joined([(0, held.picked(positions[mine])) for held, mine in some])
        scores[np.concatenate([np.arange(mine.start, mine.stop) for _, mine in some])] = together.scores(query)
    best = top(scores, k)
    owner, positions, scores = owner[best], positions[best], scores[best]
    rows = np.empty(len(best), np.int32)
    for number in set(owner.tolist()):
        mine = owner == number
        rows[mine] = sets[number][0].rows[positions[mine]]
    return owner, rows, scores


def _proposed(sets: list[Selected], query: np.ndarray, each: int, *, is_alone: bool) -> list[Proposed]:
    """The candidates of each set. Many vectors are shared out among the cores in equal piles, of which this thread takes one."""
    lists = _lists(sets, query)
    if not is_alone or sum(len(held) for held, _ in sets) <= PARALLEL_ROWS:
        return [held.candidates(query, each, selected, some) for (held, selected), some in zip(sets, lists, strict=True)]
    piles: list[list[int]] = [[] for _ in range(min(len(sets), os.cpu_count() or 1))]
    heights = [0] * len(piles)
    for number in sorted(range(len(sets)), key=lambda number: -len(sets[number][0])):
        lowest = heights.index(min(heights))
        piles[lowest].append(number)
        heights[lowest] += len(sets[number][0])

    def work(pile: list[int]) -> list[tuple[int, Proposed]]:
        return [(number, sets[number][0].candidates(query, each, sets[number][1], lists[number])) for number in pile]

    others = [threads().submit(work, pile) for pile in piles[1:]]
    done = dict(work(piles[0]))
    for other in others:
        done.update(other.result())
    return [done[number] for number in range(len(sets))]


def _lists(sets: list[Selected], query: np.ndarray) -> list[np.ndarray | None]:
    """The lists to look into in each set, chosen once for all sets of one layout."""
    chosen: dict[tuple[Layout, int], np.ndarray] = {}
    lists: list[np.ndarray | None] = []
    for held, _ in sets:
        if held.index is None:
            lists.append(None)
            continue
        layout, count = asked = held.index.layout, held.probed()
        if asked not in chosen:
            chosen[asked] = layout.likeliest(query, count)
        lists.append(chosen[asked])
    return lists


@cache
def threads() -> ThreadPoolExecutor:
    """As many threads as cores, for scans and for building."""
    return ThreadPoolExecutor(os.cpu_count(), "vectors")

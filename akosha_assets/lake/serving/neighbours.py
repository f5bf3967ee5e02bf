"""The nearest neighbours of a question among many sets of vectors, by all cores.

Two stages: each set proposes candidates (`vectors.py`), and those that were only estimated are ranked by stored vectors.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from akosha_assets.lake.serving.inverted_file import Shards
from akosha_assets.lake.serving.layouts import Layout
from akosha_assets.lake.serving.vectors import Vectors, joined, one_thread, top

# Candidates of all sets together that are ranked by their stored vectors: chosen by `akosha bench search`.
CANDIDATES = 400
# Among more vectors than this more are needed, by the root of how many times as many there are: chosen by `akosha bench tiers`.
CANDIDATES_FOR_ROWS = 1_000_000
# Sets with more vectors than this together are scanned by several threads.
PARALLEL_ROWS = 100_000
# Sets that are searched with one call: each proposes as many candidates as all of them together.
SHARDS = 8

Selected = tuple[Vectors, np.ndarray | None]


@dataclass(frozen=True)
class _Proposed:
    """Candidates by the number of their set, with their cosines or an index's estimates of them."""

    owner: np.ndarray
    positions: np.ndarray
    scores: np.ndarray
    is_estimate: bool


def nearest(
    sets: list[Selected], query: np.ndarray, k: int, candidates: int | None = None, *, is_alone: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` best of all `sets`, best first: number of the set, row, cosine. A set comes with the mask of the rows that count.

    A question that is not alone keeps to this thread: sharing it out among cores that are taken makes every question wait longer.
    """
    if not sets:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    rows = sum(len(held) for held, _ in sets)
    if candidates is None:
        candidates = round(CANDIDATES * max(1.0, rows / CANDIDATES_FOR_ROWS) ** 0.5)
    wanted = max(candidates, 2 * k)
    cores = (os.cpu_count() or 1) if is_alone and rows > PARALLEL_ROWS else 1
    proposed = _proposed(sets, query, wanted, k, cores)
    owner = np.concatenate([each.owner for each in proposed])
    positions = np.concatenate([each.positions for each in proposed])
    scores = np.concatenate([each.scores for each in proposed])
    is_estimate = np.repeat([each.is_estimate for each in proposed], [len(each.owner) for each in proposed])
    best = top(scores, wanted)
    best = best[np.argsort(owner[best], kind="stable")]
    owner, positions, scores, is_estimate = owner[best], positions[best], scores[best], is_estimate[best]
    bounds = np.searchsorted(owner, np.arange(len(sets) + 1)).tolist()
    estimated: dict[str, list[tuple[Vectors, slice]]] = {}
    for (held, _), start, stop in zip(sets, bounds, bounds[1:], strict=False):
        if start < stop and is_estimate[start]:
            estimated.setdefault(held.form, []).append((held, slice(start, stop)))
    for some in estimated.values():
        together = joined([(0, held.picked(positions[mine])) for held, mine in some])
        scores[np.concatenate([np.arange(mine.start, mine.stop) for _, mine in some])] = together.scores(query)
    best = top(scores, k)
    owner, positions, scores = owner[best], positions[best], scores[best]
    found = np.empty(len(best), np.int32)
    for number in set(owner.tolist()):
        mine = owner == number
        found[mine] = sets[number][0].rows[positions[mine]]
    return owner, found, scores


def _proposed(sets: list[Selected], query: np.ndarray, wanted: int, k: int, cores: int) -> list[_Proposed]:
    """The candidates of all sets, shared out among the cores in equal piles, of which this thread takes one."""
    units = _units(sets, cores)
    # Neighbours are spread over the units; one that had them all would need every candidate.
    each = max(wanted // 4, min(wanted, 3 * wanted // (2 * len(units))), k)
    lists = _lists(sets, query)
    piles: list[list[list[int]]] = [[] for _ in range(min(len(units), cores))]
    heights = [0] * len(piles)
    for unit in sorted(units, key=lambda unit: -_rows(sets, unit)):
        lowest = heights.index(min(heights))
        piles[lowest].append(unit)
        heights[lowest] += _rows(sets, unit)

    def work(pile: list[list[int]]) -> list[_Proposed]:
        return [_scanned(sets, unit, query, each, lists[unit[0]]) for unit in pile]

    others = [threads().submit(work, pile) for pile in piles[1:]]
    return sum((other.result() for other in others), start=work(piles[0]))


def _rows(sets: list[Selected], unit: list[int]) -> int:
    return sum(len(sets[number][0]) for number in unit)


def _units(sets: list[Selected], cores: int) -> list[list[int]]:
    """What is searched with one call: a few sets under one layout, or one that has no index or of which only some rows count."""
    units: list[list[int]] = []
    of_layout: dict[tuple[Layout, int], list[int]] = {}
    for number, (held, selected) in enumerate(sets):
        if held.index is None or selected is not None:
            units.append([number])
        else:
            of_layout.setdefault((held.index.layout, held.probed()), []).append(number)
    for numbers in of_layout.values():
        size = min(SHARDS, -(-len(numbers) // cores))
        units += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return units


def _scanned(sets: list[Selected], unit: list[int], query: np.ndarray, each: int, lists: np.ndarray | None) -> _Proposed:
    held, selected = sets[unit[0]]
    if held.index is None or selected is not None:
        positions, scores, is_estimate = held.candidates(query, each, selected, lists)
        return _Proposed(np.full(len(positions), unit[0]), positions, scores, is_estimate)
    one_thread()
    shards = Shards([index for number in unit if (index := sets[number][0].index) is not None], held.probed())
    numbers, positions, scores = shards.search(query, each)
    return _Proposed(np.array(unit)[numbers], positions, scores, True)


def _lists(sets: list[Selected], query: np.ndarray) -> list[np.ndarray | None]:
    """The lists to look into in each set of which only some rows count, chosen once for all sets of one layout."""
    chosen: dict[tuple[Layout, int], np.ndarray] = {}
    lists: list[np.ndarray | None] = []
    for held, selected in sets:
        if held.index is None or selected is None:
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

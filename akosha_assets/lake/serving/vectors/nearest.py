"""The nearest neighbours of a question among many sets of vectors, by all cores.

Two stages: each set proposes candidates (`vector_set.py`), and those that were only estimated are ranked by stored
vectors.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile, Shards
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors, top_k, use_one_faiss_thread

# Candidates of all sets together that are ranked by their stored vectors: chosen by `akosha bench search`.
CANDIDATES = 400
# Among more vectors than this more are needed, by the root of how many times as many there are: chosen by `akosha bench
# tiers`.
CANDIDATES_FOR_ROWS = 1_000_000
# Sets with more vectors than this together are scanned by several threads.
PARALLEL_ROWS = 100_000
# Sets that are searched with one call: each proposes as many candidates as all of them together.
SHARDS = 8
# A selection this small, or of less than this share, is scanned exactly; of a larger one that is still less than the
# other share, every list is looked into.
EXACT_ROWS = 8_000
EXACT_SHARE = 0.04
RARE_SHARE = 0.2

Selected = tuple[VectorSet, np.ndarray | None]


@dataclass(frozen=True)
class Candidates:
    """Candidates by the number of their set, with their cosines or an index's estimates of them."""

    owner: np.ndarray
    positions: np.ndarray
    scores: np.ndarray
    is_estimate: bool


def nearest(
    sets: list[Selected], query: np.ndarray, k: int, candidates: int | None = None, *, is_alone: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` best of all `sets`, best first: number of the set, row, cosine. A set comes with the mask of the rows
    that count.

    A question that is not alone keeps to this thread: sharing it out among cores that are taken makes every question
    wait longer.
    """
    if not sets:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    rows = sum(len(held) for held, _ in sets)
    if candidates is None:
        candidates = round(CANDIDATES * max(1.0, rows / CANDIDATES_FOR_ROWS) ** 0.5)
    wanted = max(candidates, 2 * k)
    cores = (os.cpu_count() or 1) if is_alone and rows > PARALLEL_ROWS else 1
    proposed = _propose_candidates(sets, query, wanted, k, cores)
    owner = np.concatenate([each.owner for each in proposed])
    positions = np.concatenate([each.positions for each in proposed])
    scores = np.concatenate([each.scores for each in proposed])
    is_estimate = np.repeat([each.is_estimate for each in proposed], [len(each.owner) for each in proposed])
    best = top_k(scores, wanted)
    best = best[np.argsort(owner[best], kind="stable")]
    owner, positions, scores, is_estimate = owner[best], positions[best], scores[best], is_estimate[best]
    bounds = np.searchsorted(owner, np.arange(len(sets) + 1)).tolist()
    estimated: dict[str, list[tuple[VectorSet, slice]]] = {}
    for (held, _), start, stop in zip(sets, bounds, bounds[1:], strict=False):
        if start < stop and is_estimate[start]:
            estimated.setdefault(held.form, []).append((held, slice(start, stop)))
    for some in estimated.values():
        together = concatenate_vectors([(0, held.picked(positions[mine])) for held, mine in some])
        scores[np.concatenate([np.arange(mine.start, mine.stop) for _, mine in some])] = together.scores(query)
    best = top_k(scores, k)
    owner, positions, scores = owner[best], positions[best], scores[best]
    found = np.empty(len(best), np.int32)
    for number in set(owner.tolist()):
        mine = owner == number
        found[mine] = sets[number][0].rows[positions[mine]]
    return owner, found, scores


def _propose_candidates(sets: list[Selected], query: np.ndarray, wanted: int, k: int, cores: int) -> list[Candidates]:
    """The candidates of all sets, shared out among the cores in equal piles, of which this thread takes one."""
    units = _work_units(sets, cores)
    heights = [sum(len(sets[number][0]) for number in unit) for unit in units]
    rows = max(1, sum(heights))
    lists = _probed_lists(sets, units, query)
    piles: list[list[int]] = [[] for _ in range(min(len(units), cores))]
    of_pile = [0] * len(piles)
    for each in sorted(range(len(units)), key=lambda each: -heights[each]):
        lowest = of_pile.index(min(of_pile))
        piles[lowest].append(each)
        of_pile[lowest] += heights[each]

    def work(pile: list[int]) -> list[Candidates]:
        found = []
        for each in pile:
            # Neighbours are spread over the units; one that had them all would need every candidate.
            some = max(wanted // 4, min(wanted, 3 * wanted * heights[each] // (2 * rows)), k)
            found += _scan_unit(sets, units[each], query, some, lists)
        return found

    others = [threads().submit(work, pile) for pile in piles[1:]]
    return sum((other.result() for other in others), start=work(piles[0]))


def _work_units(sets: list[Selected], cores: int) -> list[list[int]]:
    """What is searched with one call: the sets of one file, a few files of one set under one layout, or a set without
    an index.
    """
    units: list[list[int]] = []
    of_file: dict[InvertedFile, list[int]] = {}
    of_layout: dict[tuple[CoarseQuantizer, int], list[int]] = {}
    for number, (held, selected) in enumerate(sets):
        if held.index is None:
            units.append([number])
        elif held.index.file.sets > 1 or selected is not None:
            of_file.setdefault(held.index.file, []).append(number)
        else:
            of_layout.setdefault((held.index.file.layout, held.probed()), []).append(number)
    units += of_file.values()
    for numbers in of_layout.values():
        size = min(SHARDS, -(-len(numbers) // cores))
        units += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return units


def _scan_unit(
    sets: list[Selected],
    unit: list[int],
    query: np.ndarray,
    wanted: int,
    lists: dict[tuple[CoarseQuantizer, int], np.ndarray],
) -> list[Candidates]:
    held, selected = sets[unit[0]]
    if held.index is None:
        return [_exact_candidates(unit[0], held, query, wanted, held.selection(selected))]
    use_one_faiss_thread()
    file = held.index.file
    if file.sets > 1 or selected is not None:
        return _file_candidates(
            file, {number: sets[number] for number in unit}, query, wanted, lists[file.layout, held.probed()]
        )
    shards = Shards([index.file for number in unit if (index := sets[number][0].index) is not None], held.probed())
    numbers, positions, scores = shards.search(query, wanted)
    return [Candidates(np.array(unit)[numbers], positions, scores, True)]


def _file_candidates(
    file: InvertedFile, sets: dict[int, Selected], query: np.ndarray, wanted: int, lists: np.ndarray
) -> list[Candidates]:
    """Candidates of the sets, by their numbers, among those that lie in one file."""
    masks = {number: held.selection(selected) for number, (held, selected) in sets.items()}
    left = sum(
        len(held) if (mask := masks[number]) is None else int(np.count_nonzero(mask))
        for number, (held, _) in sets.items()
    )
    if left <= max(EXACT_ROWS, EXACT_SHARE * len(file)) and left < len(file):
        return [_exact_candidates(number, held, query, wanted, masks[number]) for number, (held, _) in sets.items()]
    if left < RARE_SHARE * len(file):
        lists = np.arange(len(file.layout))
    of_segment = {held.index.number: number for number, (held, _) in sets.items() if held.index is not None}
    selected = (
        None if left == len(file) else file.mask({segment: masks[number] for segment, number in of_segment.items()})
    )
    positions, estimates = file.search(query, min(wanted, left), lists, selected)
    segments, positions = file.located(positions)
    owners = np.array([of_segment.get(segment, -1) for segment in range(file.sets)])
    return [Candidates(owners[segments], positions, estimates, True)]


def _exact_candidates(
    number: int, held: VectorSet, query: np.ndarray, wanted: int, mask: np.ndarray | None
) -> Candidates:
    positions, cosines = held.best(query, wanted, mask)
    return Candidates(np.full(len(positions), number), positions, cosines, False)


def _probed_lists(
    sets: list[Selected], units: list[list[int]], query: np.ndarray
) -> dict[tuple[CoarseQuantizer, int], np.ndarray]:
    """The lists that this question looks into, chosen once for all files of a layout that are not searched as shards."""
    chosen: dict[tuple[CoarseQuantizer, int], np.ndarray] = {}
    for unit in units:
        held, selected = sets[unit[0]]
        if held.index is not None and (held.index.file.sets > 1 or selected is not None):
            layout, count = asked = held.index.file.layout, held.probed()
            if asked not in chosen:
                chosen[asked] = layout.probe(query, count)
    return chosen


@cache
def threads() -> ThreadPoolExecutor:
    """As many threads as cores, for scans and for building."""
    return ThreadPoolExecutor(os.cpu_count(), "vectors")

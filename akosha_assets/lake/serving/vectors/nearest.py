"""The nearest neighbours of a query among many sets of vectors, on all cores.

Two stages: each set proposes candidates, and candidates with estimated scores are ranked again by stored vectors.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile, Shards
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors, top_k, use_one_faiss_thread

# Candidates of all sets together that are ranked again by their stored vectors: chosen by `akosha bench search`.
CANDIDATES = 400
# With more vectors than this, the candidates grow with the square root of the rows: chosen by `akosha bench tiers`.
CANDIDATES_FOR_ROWS = 1_000_000
# Above this many vectors a scan uses several threads.
PARALLEL_ROWS = 100_000
# Single-set files per FAISS call: each file proposes as many candidates as the call returns.
SHARDS = 8
# A selection of at most this many rows or this share is scanned exactly; below the larger share, all lists are probed.
EXACT_ROWS = 8_000
EXACT_SHARE = 0.04
RARE_SHARE = 0.2

# A set of vectors and the mask of the part's rows to search, (rows,) bool; None searches all.
Selected = tuple[VectorSet, np.ndarray | None]
# A quantizer and the number of lists to probe.
Probe = tuple[CoarseQuantizer, int]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Candidates of one work unit."""

    # (candidates,) int64: the position of each candidate's set.
    owner: np.ndarray
    # (candidates,) int64: the position in the set.
    positions: np.ndarray
    # (candidates,) float32: cosines, or an index's estimates of them.
    scores: np.ndarray
    is_estimate: bool


def nearest(
    sets: Sequence[Selected], query: np.ndarray, k: int, candidates: int | None = None, *, is_alone: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` nearest rows of all `sets`, best first: position of the set, row of its part, cosine, each (k,).

    `is_alone`: no other query runs. With others running, this one stays in its thread: sharing busy cores makes every
    query slower.
    """
    if not sets:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    rows = sum(len(vectors) for vectors, _ in sets)
    if candidates is None:
        candidates = round(CANDIDATES * max(1.0, rows / CANDIDATES_FOR_ROWS) ** 0.5)
    candidates = max(candidates, 2 * k)
    cores = (os.cpu_count() or 1) if is_alone and rows > PARALLEL_ROWS else 1
    proposed = _propose_candidates(sets, query, candidates, k, cores)
    owner = np.concatenate([each.owner for each in proposed])
    positions = np.concatenate([each.positions for each in proposed])
    scores = np.concatenate([each.scores for each in proposed])
    is_estimate = np.repeat([each.is_estimate for each in proposed], [len(each.owner) for each in proposed])
    best = top_k(scores, candidates)
    best = best[np.argsort(owner[best], kind="stable")]
    owner, positions, scores, is_estimate = owner[best], positions[best], scores[best], is_estimate[best]
    _rank_estimates(sets, query, owner, positions, scores, is_estimate)
    best = top_k(scores, k)
    owner, positions, scores = owner[best], positions[best], scores[best]
    nearest_rows = np.empty(len(best), np.int32)
    for number in set(owner.tolist()):
        is_own = owner == number
        nearest_rows[is_own] = sets[number][0].rows[positions[is_own]]
    return owner, nearest_rows, scores


def _rank_estimates(
    sets: Sequence[Selected],
    query: np.ndarray,
    owner: np.ndarray,
    positions: np.ndarray,
    scores: np.ndarray,
    is_estimate: np.ndarray,
) -> None:
    """Replaces estimates in `scores` by cosines with the stored vectors. `owner` is sorted; all arrays are (rows,)."""
    bounds = np.searchsorted(owner, np.arange(len(sets) + 1)).tolist()
    by_form: dict[str, list[tuple[VectorSet, slice]]] = {}
    for (vectors, _), start, stop in zip(sets, bounds[:-1], bounds[1:], strict=True):
        if start < stop and is_estimate[start]:
            by_form.setdefault(vectors.form, []).append((vectors, slice(start, stop)))
    for pieces in by_form.values():
        merged = concatenate_vectors([(0, vectors.take(positions[own])) for vectors, own in pieces])
        scores[np.concatenate([np.arange(own.start, own.stop) for _, own in pieces])] = merged.scores(query)


def _propose_candidates(
    sets: Sequence[Selected], query: np.ndarray, candidates: int, k: int, cores: int
) -> list[Candidates]:
    """The candidates of all sets. Each core gets about the same number of rows; this thread works for one of them."""
    units = _work_units(sets, cores)
    unit_rows = [sum(len(sets[number][0]) for number in unit) for unit in units]
    rows = max(1, sum(unit_rows))
    lists = _probed_lists(sets, units, query)
    shards: list[list[int]] = [[] for _ in range(min(len(units), cores))]
    shard_rows = [0] * len(shards)
    for unit in sorted(range(len(units)), key=lambda unit: -unit_rows[unit]):
        smallest = shard_rows.index(min(shard_rows))
        shards[smallest].append(unit)
        shard_rows[smallest] += unit_rows[unit]

    def scan(shard: list[int]) -> list[Candidates]:
        proposed = []
        for unit in shard:
            # Neighbours are spread over the units: half as many again as a unit's share of the rows are enough.
            share = 3 * candidates * unit_rows[unit] // (2 * rows)
            proposed += _scan_unit(sets, units[unit], query, max(candidates // 4, min(candidates, share), k), lists)
        return proposed

    others = [threads().submit(scan, shard) for shard in shards[1:]]
    return sum((other.result() for other in others), start=scan(shards[0]))


def _work_units(sets: Sequence[Selected], cores: int) -> list[list[int]]:
    """The sets that one call searches: the sets of one file, some files of one set and one quantizer, or a set without
    an index.
    """
    units: list[list[int]] = []
    by_file: dict[InvertedFile, list[int]] = {}
    by_probe: dict[Probe, list[int]] = {}
    for number, (vectors, selected) in enumerate(sets):
        if vectors.index is None:
            units.append([number])
        elif vectors.index.file.sets > 1 or selected is not None:
            by_file.setdefault(vectors.index.file, []).append(number)
        else:
            by_probe.setdefault((vectors.index.file.quantizer, vectors.probe_count()), []).append(number)
    units += by_file.values()
    for numbers in by_probe.values():
        size = min(SHARDS, -(-len(numbers) // cores))
        units += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return units


def _scan_unit(
    sets: Sequence[Selected], unit: list[int], query: np.ndarray, candidates: int, lists: dict[Probe, np.ndarray]
) -> list[Candidates]:
    vectors, selected = sets[unit[0]]
    if vectors.index is None:
        return [_exact_candidates(unit[0], vectors, query, candidates, vectors.selection(selected))]
    use_one_faiss_thread()
    file = vectors.index.file
    if file.sets > 1 or selected is not None:
        probed = lists[file.quantizer, vectors.probe_count()]
        return _file_candidates(file, {number: sets[number] for number in unit}, query, candidates, probed)
    files = [index.file for number in unit if (index := sets[number][0].index) is not None]
    numbers, positions, scores = Shards(files, vectors.probe_count()).search(query, candidates)
    return [Candidates(owner=np.array(unit)[numbers], positions=positions, scores=scores, is_estimate=True)]


def _file_candidates(
    file: InvertedFile, sets: dict[int, Selected], query: np.ndarray, candidates: int, lists: np.ndarray
) -> list[Candidates]:
    """Candidates of the sets of one file."""
    masks = {number: vectors.selection(selected) for number, (vectors, selected) in sets.items()}
    rows = 0
    for number, (vectors, _) in sets.items():
        mask = masks[number]
        rows += len(vectors) if mask is None else int(np.count_nonzero(mask))
    if rows <= max(EXACT_ROWS, EXACT_SHARE * len(file)) and rows < len(file):
        return [
            _exact_candidates(number, vectors, query, candidates, masks[number])
            for number, (vectors, _) in sets.items()
        ]
    if rows < RARE_SHARE * len(file):
        lists = np.arange(len(file.quantizer))
    number_of = {vectors.index.set_id: number for number, (vectors, _) in sets.items() if vectors.index is not None}
    selected = None
    if rows != len(file):
        selected = file.mask({set_id: masks[number] for set_id, number in number_of.items()})
    positions, estimates = file.search(query, min(candidates, rows), lists, selected)
    set_ids, positions = file.locate(positions)
    owners = np.array([number_of.get(set_id, -1) for set_id in range(file.sets)])
    return [Candidates(owner=owners[set_ids], positions=positions, scores=estimates, is_estimate=True)]


def _exact_candidates(
    number: int, vectors: VectorSet, query: np.ndarray, candidates: int, mask: np.ndarray | None
) -> Candidates:
    positions, cosines = vectors.scan(query, candidates, mask)
    return Candidates(owner=np.full(len(positions), number), positions=positions, scores=cosines, is_estimate=False)


def _probed_lists(sets: Sequence[Selected], units: list[list[int]], query: np.ndarray) -> dict[Probe, np.ndarray]:
    """The lists to probe, chosen once for all files of a quantizer. Shards choose their own."""
    lists: dict[Probe, np.ndarray] = {}
    for unit in units:
        vectors, selected = sets[unit[0]]
        if vectors.index is not None and (vectors.index.file.sets > 1 or selected is not None):
            quantizer, count = vectors.index.file.quantizer, vectors.probe_count()
            if (quantizer, count) not in lists:
                lists[quantizer, count] = quantizer.probe(query, count)
    return lists


@cache
def threads() -> ThreadPoolExecutor:
    """A pool with one thread a core, for scans and index builds."""
    return ThreadPoolExecutor(os.cpu_count(), "vectors")

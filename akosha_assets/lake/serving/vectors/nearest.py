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
from akosha_assets.lake.serving.vectors.ranked_rows import RankedRows
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors, top_k, use_one_faiss_thread

# Candidates of all sets together that are ranked again by their stored vectors: chosen by `akosha bench search`.
CANDIDATES = 400
# With more vectors than this, the candidates grow with the square root of the rows: chosen by `akosha bench tiers`.
CANDIDATES_FOR_ROWS = 1_000_000
# So many times more candidates are ranked while too few rows are among them.
DEEPER = 4
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

    As `nearest_rows`, without the passages.
    """
    found = nearest_rows(sets, query, k, candidates, is_alone=is_alone)
    return found.owner, found.row, found.score


def nearest_rows(
    sets: Sequence[Selected], query: np.ndarray, k: int, candidates: int | None = None, *, is_alone: bool = True
) -> RankedRows:
    """The `k` nearest rows of all `sets`. A row with passages counts once, by its best vector.

    `is_alone`: no other query runs. With others running, this one stays in its thread: sharing busy cores makes every
    query slower.
    """
    if not sets:
        return RankedRows.empty()
    count = sum(len(vectors) for vectors, _ in sets)
    if candidates is None:
        candidates = round(CANDIDATES * max(1.0, count / CANDIDATES_FOR_ROWS) ** 0.5)
    candidates = max(candidates, 2 * k)
    if all(vectors.passages is None for vectors, _ in sets):
        owner, positions, scores = _score_candidates(sets, query, candidates, k, is_alone=is_alone)
        best = top_k(scores, k)
        return _rows_of(sets, owner[best], positions[best], scores[best])
    # Passages of the same rows may take most of the places: it is repeated deeper until as many rows are candidates as
    # without passages.
    while True:
        owner, positions, scores = _score_candidates(sets, query, candidates, candidates // 2, is_alone=is_alone)
        best = top_k(scores, len(scores))
        found = _rows_of(sets, owner[best], positions[best], scores[best])
        firsts = np.sort(np.unique(found.owner.astype(np.int64) << 32 | found.row, return_index=True)[1])
        if len(firsts) >= 2 * k or len(found) < candidates // 2 or candidates >= 2 * count:
            return found.take(firsts[:k])
        candidates = min(DEEPER * candidates, 2 * count)


def _rows_of(sets: Sequence[Selected], owner: np.ndarray, positions: np.ndarray, scores: np.ndarray) -> RankedRows:
    """The rows of the vectors at `positions` of the sets `owner`, each (vectors,), in their order."""
    rows = np.empty(len(owner), np.int32)
    passages = np.zeros((len(owner), 2), np.int32)
    for number in set(owner.tolist()):
        is_own = owner == number
        vectors = sets[number][0]
        rows[is_own] = vectors.rows[positions[is_own]]
        if vectors.passages is not None:
            passages[is_own] = vectors.passages[positions[is_own]]
    return RankedRows(owner=owner, row=rows, score=scores, passage=passages)


def _score_candidates(
    sets: Sequence[Selected], query: np.ndarray, candidates: int, k: int, *, is_alone: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Up to `candidates` vectors among which are the `k` nearest of all `sets`: position of the set, position in it,
    cosine, each (vectors,), by set.
    """
    rows = sum(len(vectors) for vectors, _ in sets)
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
    return owner, positions, scores


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

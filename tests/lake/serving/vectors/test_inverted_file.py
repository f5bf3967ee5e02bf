"""The index of a set of vectors: what is in it, under which position, and how near its estimates are."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile, Shards
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer, list_count

DIMENSIONS = 96


def vectors(count: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(40, DIMENSIONS))[rng.integers(0, 40, count)] + rng.normal(size=(count, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def built(stored: np.ndarray) -> InvertedFile:
    layout = CoarseQuantizer.train(len(stored), lambda at: stored[at], list_count(len(stored)))
    return InvertedFile.built(len(stored), layout, lambda at: stored[at])


def searched(index: InvertedFile, asked: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    found = [index.search(one, wanted, np.arange(len(index.layout)), None) for one in asked]
    return np.stack([estimates for _, estimates in found]), np.stack([positions for positions, _ in found])


@pytest.mark.parametrize("count", [2_048, 5_001])
def test_every_vector_is_in_the_index_once_under_its_position(count: int) -> None:
    stored = vectors(count)
    index = built(stored)
    _, positions = searched(index, stored[:2], count)
    assert index.index.ntotal == count
    for found in positions:
        assert sorted(found.tolist()) == list(range(count))


def test_estimates_are_the_products_with_the_nearest_levels() -> None:
    stored = vectors(3_000)
    index = built(stored)
    estimates, positions = searched(index, stored[:20], len(stored))
    exact = np.take_along_axis(stored[:20] @ stored.T, positions, axis=1)
    assert np.corrcoef(estimates.ravel(), exact.ravel())[0, 1] > 0.95
    points = faiss.vector_to_array(index.index.pq.centroids).reshape(DIMENSIONS // 2, 16, 2)
    nearest = ((stored[:20].reshape(20, -1, 1, 2) - points) ** 2).sum(axis=-1).argmin(axis=-1)
    decoded = np.take_along_axis(points[None], nearest[:, :, None, None], axis=2).reshape(20, DIMENSIONS)
    for row in range(20):
        estimate = estimates[row][positions[row] == row]
        assert estimate == pytest.approx(decoded[row] @ stored[row], abs=0.03)


def test_vectors_that_are_all_alike_are_indexed_too() -> None:
    alike = np.repeat(vectors(1), 2_500, axis=0)
    index = built(alike)
    _, positions = searched(index, alike[:1], 10)
    assert len(set(positions[0].tolist()) - {-1}) == 10


def test_an_index_is_the_same_each_time() -> None:
    stored = vectors(2_500)
    first, second = (faiss.serialize_index(built(stored).index) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_an_index_read_again_finds_the_same_under_the_same_layout(tmp_path: Path, is_mapped: bool) -> None:
    stored = vectors(3_000)
    index = built(stored)
    index.write(tmp_path / "index")
    again = InvertedFile.read(tmp_path / "index", is_mapped=is_mapped)
    assert again.layout is index.layout
    for found, expected in zip(searched(again, stored[:3], 50), searched(index, stored[:3], 50), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wanted", [60, 20_000])
def test_files_searched_with_one_call_give_what_each_gives(wanted: int) -> None:
    stored = vectors(9_000)
    layout = CoarseQuantizer.train(len(stored), lambda at: stored[at], 100)
    pieces = [stored[:4_000], stored[4_000:4_100], stored[4_100:]]
    # type: ignore[misc]
    files = [InvertedFile.built(len(piece), layout, lambda at, piece=piece: piece[at]) for piece in pieces]
    lists = layout.probe(stored[5], 12)
    each = [file.search(stored[5], len(piece), lists, None) for file, piece in zip(files, pieces, strict=True)]
    expected = {
        (number, position): estimate
        for number, (positions, estimates) in enumerate(each)
        for position, estimate in zip(positions.tolist(), estimates.tolist(), strict=True)
    }
    numbers, positions, estimates = Shards(files, 12).search(stored[5], wanted)
    found = dict(zip(zip(numbers.tolist(), positions.tolist(), strict=True), estimates.tolist(), strict=True))
    assert len(found) == min(wanted, len(expected)) == len(numbers)
    assert all(found[at] == pytest.approx(expected[at]) for at in found)
    assert sorted(found.values(), reverse=True) == pytest.approx(sorted(expected.values(), reverse=True)[: len(found)])

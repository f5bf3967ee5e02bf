"""The index of a set of vectors: what is in it, under which position, and how near its estimates are."""

import faiss
import numpy as np
import pytest

from akosha_assets.lake.serving import inverted_file

DIMENSIONS = 96


def vectors(count: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(40, DIMENSIONS))[rng.integers(0, 40, count)] + rng.normal(size=(count, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def searched(index: faiss.Index, asked: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    return index.search(asked, wanted, params=faiss.SearchParametersIVF(nprobe=index.nlist))


@pytest.mark.parametrize("count", [2_048, 5_001])
def test_every_vector_is_in_the_index_once_under_its_position(count: int) -> None:
    stored = vectors(count)
    index = inverted_file.built(count, DIMENSIONS, lambda at: stored[at])
    _, positions = searched(index, stored[:2], count)
    assert index.ntotal == count
    for found in positions:
        assert sorted(found.tolist()) == list(range(count))


def test_estimates_are_the_products_with_the_nearest_levels() -> None:
    stored = vectors(3_000)
    index = inverted_file.built(len(stored), DIMENSIONS, lambda at: stored[at])
    estimates, positions = searched(index, stored[:20], len(stored))
    exact = np.take_along_axis(stored[:20] @ stored.T, positions, axis=1)
    assert np.corrcoef(estimates.ravel(), exact.ravel())[0, 1] > 0.95
    points = faiss.vector_to_array(index.pq.centroids).reshape(DIMENSIONS // 2, 16, 2)
    nearest = ((stored[:20].reshape(20, -1, 1, 2) - points) ** 2).sum(axis=-1).argmin(axis=-1)
    decoded = np.take_along_axis(points[None], nearest[:, :, None, None], axis=2).reshape(20, DIMENSIONS)
    for row in range(20):
        estimate = estimates[row][positions[row] == row]
        assert estimate == pytest.approx(decoded[row] @ stored[row], abs=0.03)


def test_vectors_that_are_all_alike_are_indexed_too() -> None:
    alike = np.repeat(vectors(1), 2_500, axis=0)
    index = inverted_file.built(len(alike), DIMENSIONS, lambda at: alike[at])
    _, positions = searched(index, alike[:1], 10)
    assert len(set(positions[0].tolist()) - {-1}) == 10


def test_an_index_is_the_same_each_time() -> None:
    stored = vectors(2_500)
    first, second = (faiss.serialize_index(inverted_file.built(len(stored), DIMENSIONS, lambda at: stored[at])) for _ in range(2))
    np.testing.assert_array_equal(first, second)

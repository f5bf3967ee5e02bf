"""The index of a set of vectors: its contents, its positions and the error of its estimates."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile, Shards
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer, list_count

DIMENSIONS = 96


def vectors(count: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, DIMENSIONS))[rng.integers(0, 40, count)] + rng.normal(size=(count, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def built(stored: np.ndarray) -> InvertedFile:
    quantizer = CoarseQuantizer.train(len(stored), lambda at: stored[at], list_count(len(stored)))
    return InvertedFile.build(len(stored), quantizer, lambda at: stored[at])


def searched(index: InvertedFile, queries: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    found = [index.search(one, wanted, np.arange(len(index.quantizer)), None) for one in queries]
    return np.stack([estimates for _, estimates in found]), np.stack([positions for positions, _ in found])


@pytest.mark.parametrize("count", [2_048, 5_001])
def test_each_vector_is_in_the_index_once_at_its_position(count: int) -> None:
    stored = vectors(count)
    index = built(stored)
    _, positions = searched(index, stored[:2], count)
    assert index.index.ntotal == count
    for found in positions:
        assert sorted(found.tolist()) == list(range(count))


def test_estimates_are_products_with_the_nearest_codebook_levels() -> None:
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


def test_identical_vectors_can_be_indexed() -> None:
    alike = np.repeat(vectors(1), 2_500, axis=0)
    index = built(alike)
    _, positions = searched(index, alike[:1], 10)
    assert len(set(positions[0].tolist()) - {-1}) == 10


def test_building_an_index_is_deterministic() -> None:
    stored = vectors(2_500)
    first, second = (faiss.serialize_index(built(stored).index) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_an_index_read_from_a_file_finds_the_same_with_the_same_quantizer(tmp_path: Path, is_mapped: bool) -> None:
    stored = vectors(3_000)
    index = built(stored)
    index.write(tmp_path / "index")
    again = InvertedFile.read(tmp_path / "index", is_mapped=is_mapped)
    assert again.quantizer is index.quantizer
    for found, expected in zip(searched(again, stored[:3], 50), searched(index, stored[:3], 50), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wanted", [60, 20_000])
def test_one_call_for_several_files_finds_the_same_as_one_call_each(wanted: int) -> None:
    stored = vectors(9_000)
    quantizer = CoarseQuantizer.train(len(stored), lambda at: stored[at], 100)
    pieces = [stored[:4_000], stored[4_000:4_100], stored[4_100:]]
    files = [InvertedFile.build(len(piece), quantizer, piece.__getitem__) for piece in pieces]
    lists = quantizer.probe(stored[5], 12)
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

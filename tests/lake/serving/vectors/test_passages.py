"""The nearest rows among sets in which long memories have many vectors."""

import numpy as np
import pytest

from akosha_assets.lake.lifecycle import quantization
from akosha_assets.lake.serving.vectors import nearest as nearest_module
from akosha_assets.lake.serving.vectors.nearest import nearest, nearest_rows
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from akosha_assets.lake.serving.vectors.vector_set import VectorSet

ROWS, DIMENSIONS = 3000, 64
FORMS = ["float16", "int8", "sketch"]


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """(rows,) int64: most rows have one vector, every tenth has 33."""
    counts = np.ones(ROWS, np.int64)
    counts[::10] = 33
    return counts


@pytest.fixture(scope="module")
def vectors(counts: np.ndarray) -> np.ndarray:
    """(vectors, dimensions) float32. The passages of a row are similar, so that they crowd together."""
    random = np.random.default_rng(3)
    centres = np.repeat(random.normal(size=(ROWS, DIMENSIONS)), counts, axis=0)
    made = centres + 0.5 * random.normal(size=centres.shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def set_of(vectors: np.ndarray, rows: np.ndarray, form: str) -> VectorSet:
    places = np.arange(len(rows), dtype=np.int32)
    passages = np.stack([places, places + 1], axis=1)
    if form == "float16":
        return VectorSet(rows, vectors.astype(np.float16), form, passages=passages)
    matrix, scale = (quantization.to_int8 if form == "int8" else quantization.to_sketch)(vectors)
    return VectorSet(rows, matrix, form, scale, passages=passages)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [10, 120, 2000])
def test_each_row_counts_once_by_its_best_passage(vectors: np.ndarray, counts: np.ndarray, form: str, k: int) -> None:
    rows = np.repeat(np.arange(ROWS, dtype=np.int32), counts)
    one = set_of(vectors, rows, form).with_index("space", CoarseQuantizers())
    # A memory with 33 passages: most of the nearest vectors are its own.
    query = vectors[rows == 50].mean(axis=0)
    query /= np.linalg.norm(query)
    best = np.maximum.reduceat(one.scores(query), np.flatnonzero(np.diff(rows, prepend=-1)))
    found = nearest_rows([(one, None)], query, k)
    assert len(set(found.row.tolist())) == len(found) == k
    assert found.row[0] == 50
    # The lists that a query probes do not have the best passages of the farther rows.
    assert np.allclose(found.score[:120], best[found.row[:120]], atol=1e-5)
    assert (np.diff(found.score) <= 0).all()
    # The passage is that of the best vector.
    places = found.passage[:, 0]
    assert (rows[places] == found.row).all()
    assert np.allclose(one.scores(query, places), found.score, atol=1e-5)
    exact = set(np.argsort(-best, kind="stable")[:k].tolist())
    # The lists that a query probes do not have most rows.
    assert len(exact & set(found.row.tolist())) >= (0.9 if k < ROWS / 10 else 0.75) * k


def test_a_filter_selects_rows_with_all_their_passages(vectors: np.ndarray, counts: np.ndarray) -> None:
    rows = np.repeat(np.arange(ROWS, dtype=np.int32), counts)
    one = set_of(vectors, rows, "float16").with_index("space", CoarseQuantizers())
    mask = np.zeros(ROWS, bool)
    mask[:100] = True
    _, found, _ = nearest([(one, mask)], vectors[0], 200)
    assert sorted(found.tolist()) == list(range(100))


def test_sets_with_and_without_passages_are_searched_together(
    vectors: np.ndarray, counts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_module, "PARALLEL_ROWS", 0)
    rows = np.repeat(np.arange(ROWS, dtype=np.int32), counts)
    quantizers = CoarseQuantizers()
    long = set_of(vectors, rows, "float16").with_index("space", quantizers)
    plain = VectorSet(np.arange(4000, dtype=np.int32), vectors[:4000].astype(np.float16)).with_index(
        "space", quantizers
    )
    found = nearest_rows([(long, None), (plain, None)], vectors[0], 20)
    assert len({*zip(found.owner.tolist(), found.row.tolist(), strict=True)}) == 20
    assert found.score[:2].tolist() == pytest.approx([1, 1], abs=1e-3)
    assert found.passage[found.owner == 1].tolist() == [[0, 0]] * int((found.owner == 1).sum())


@pytest.mark.parametrize("form", FORMS)
def test_the_score_of_a_row_is_that_of_its_best_passage(vectors: np.ndarray, counts: np.ndarray, form: str) -> None:
    with_vectors = np.flatnonzero(np.arange(ROWS) % 7 > 0)
    chosen = np.isin(np.repeat(np.arange(ROWS), counts), with_vectors)
    rows = np.repeat(np.arange(ROWS, dtype=np.int32), counts)[chosen]
    one = set_of(vectors[chosen], rows, form)
    expected = np.full(ROWS, np.nan, np.float32)
    expected[with_vectors] = np.maximum.reduceat(one.scores(vectors[5]), np.flatnonzero(np.diff(rows, prepend=-1)))
    asked = np.random.default_rng(1).permutation(ROWS)
    assert np.allclose(one.row_scores(vectors[5], asked), expected[asked], atol=1e-5, equal_nan=True)
    assert np.isnan(one.row_scores(vectors[5], np.array([0, 7, ROWS + 5]))).all()

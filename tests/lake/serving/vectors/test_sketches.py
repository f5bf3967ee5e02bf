"""Scanning sketches from their bytes gives the estimates that the sketches stand for."""

import numpy as np
import pytest

from akosha_assets.lake.lifecycle.quantization import sketch_scores, to_sketch
from akosha_assets.lake.serving.vectors import sketches
from akosha_assets.lake.serving.vectors.nearest import nearest
from akosha_assets.lake.serving.vectors.vector_set import VectorSet

DIMENSIONS = 64


@pytest.fixture(scope="module")
def floats() -> np.ndarray:
    rows = np.random.default_rng(5).normal(size=(20_001, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_results_equal_an_exact_scan_with_the_same_estimates(floats: np.ndarray) -> None:
    question, (bits, scale) = floats[0], to_sketch(floats[1:])
    expected = sketch_scores(question[None], bits, scale)[0]
    positions, estimates = sketches.scan(question, bits, scale, 800)
    np.testing.assert_allclose(estimates, expected[positions], atol=1e-5)
    assert set(np.argsort(-expected)[:20]) <= set(positions.tolist())


def test_a_filter_scans_only_the_selected_rows(floats: np.ndarray) -> None:
    bits, scale = to_sketch(floats)
    cold = VectorSet(np.arange(len(floats), dtype=np.int32), bits, "sketch", scale)
    for share in (0.0, 0.0005, 0.9):
        mask = np.random.default_rng(6).random(len(floats)) < share
        expected = np.where(mask, sketch_scores(floats[7][None], bits, scale)[0], -9)
        _, found, _ = nearest([(cold, mask)], floats[7], 10)
        assert set(found.tolist()) == set(np.argsort(-expected)[: min(10, int(mask.sum()))].tolist())

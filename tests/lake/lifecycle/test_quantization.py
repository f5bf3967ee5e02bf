"""Fewer bytes a vector, at a stated loss."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.lifecycle import quantization
from tests.lake.lifecycle.memories import vectors


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 384]))
@settings(max_examples=25, deadline=None)
def test_int8_is_within_half_a_step_of_the_vector(seed: int, dimension: int) -> None:
    floats = np.random.default_rng(seed).standard_normal((5, dimension)).astype(np.float32)
    floats[0] = 0
    numbers, scale = quantization.to_int8(floats)
    assert np.abs(quantization.from_int8(numbers, scale) - floats).max() <= scale.max() * 0.501


def test_a_sketch_estimates_the_cosine_without_bias() -> None:
    stored, questions = vectors(500, seed=1), vectors(50, seed=2)
    estimate = quantization.sketch_scores(questions, *quantization.to_sketch(stored))
    error = estimate - questions @ stored.T
    assert abs(error.mean()) < 0.01 and error.std() < 0.06


def test_the_rotation_is_a_rotation_and_always_the_same() -> None:
    fixed = quantization.rotation(384)
    assert np.allclose(fixed @ fixed.T, np.eye(384), atol=1e-5)
    assert np.allclose(fixed[0, :3], quantization.rotation.__wrapped__(384)[0, :3])


def test_columns_of_mixed_lengths_and_nulls_come_apart_and_together() -> None:
    column = pa.array([b"\x01\x02", None, b"\x03\x04\x05\x06", b"\x07\x08"], pa.binary())
    groups = [
        (numbers, quantization.matrix(column.take(pa.array(numbers)), "u1"))
        for numbers in quantization.by_length(column)
    ]
    assert [numbers.tolist() for numbers, _ in groups] == [[0, 3], [2]]
    assert quantization.scatter(4, groups).equals(column)


def test_fingerprints_keep_their_lowest_bits_and_estimate_resemblance() -> None:
    random = np.random.default_rng(5)
    one = random.integers(0, 2**63, 128, dtype=np.uint64)
    other = np.where(np.arange(128) < 96, one, random.integers(0, 2**63, 128, dtype=np.uint64))
    whole = pa.array([one.tobytes(), other.tobytes(), None, b"odd"], pa.binary())
    eight = quantization.compact_fingerprint(whole, 8)
    four = quantization.compact_fingerprint(eight, 4)
    assert [None if value is None else len(value) for value in four.to_pylist()] == [64, 64, None, None]
    assert four.equals(quantization.compact_fingerprint(whole, 4))
    assert 0.68 < quantization.resemblance(four[0].as_py(), four[1].as_py()) < 0.82
    assert quantization.resemblance(eight[0].as_py(), eight[0].as_py()) == 1


def test_a_sketch_of_a_vector_that_is_no_unit_vector_has_a_finite_scale() -> None:
    _, scale = quantization.to_sketch(np.full((1, 384), 65_504, np.float32))
    assert np.isfinite(scale).all()
